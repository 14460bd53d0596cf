"""What MkDocs calls: adds what is generated, which exists only while it builds.

MkDocs loads this file by its path, so everything of ours that it needs is
imported by name from here.
"""

from __future__ import annotations

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from ops.pages import GENERATED, INSERTED


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add each generated page beside those that were written."""
    for place, page in GENERATED.items():
        files.append(File.generated(config, place, content=page()))
    return files


def on_page_markdown(markdown: str, **_more: object) -> str:
    """Put generated pieces where a written page asks for them."""
    for mark, piece in INSERTED.items():
        if mark in markdown:
            markdown = markdown.replace(mark, piece())
    return markdown
