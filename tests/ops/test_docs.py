"""The documentation: what it names exists, it builds, and nothing in it is loaded from elsewhere."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import typer

from config import names
from config.settings import Settings
from migrations.metadata import metadata
from ops.cli.app import app
from tests.repository import PROJECT

DOCS = PROJECT / "ops" / "docs"
WRITTEN = sorted([PROJECT / "README.md", PROJECT / "CHANGELOG.md", *DOCS.rglob("*.md")])
ROOMS = "api|config|examples|migrations|models|ops|tests|workers"
BUILT = ("ops/site",)
"""Places that exist once the documentation is built."""

CODE = re.compile(r"`([^`\n]+)`")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")


def identity(file: Path) -> str:
    """A page by its place in the repository."""
    return file.relative_to(PROJECT).as_posix()


def lines_of_code(file: Path) -> Iterator[str]:
    """Each piece of inline code, and each line of a block for a shell, joined over backslashes."""
    text = file.read_text(encoding="utf-8")
    for language, block in FENCE.findall(text):
        if language == "sh":
            yield from block.replace("\\\n", " ").splitlines()
    yield from CODE.findall(FENCE.sub("", text))


def commands(file: Path, name: str) -> list[list[str]]:
    """The words of each command of a page that begins with ``name``, comments cut off."""
    found = []
    for line in lines_of_code(file):
        try:
            words = shlex.split(line, comments=True)
        except ValueError:
            continue  # prose with an apostrophe
        if words and words[0].removeprefix(".venv/bin/") == name:
            found.append(words[1:])
    return found


@pytest.mark.parametrize("file", WRITTEN, ids=identity)
def test_make_targets_exist(file: Path) -> None:
    """Every ``make`` target that a page names stands in the Makefile."""
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    targets = {word for rest in commands(file, "make") for word in rest if "=" not in word}
    assert {target for target in targets if not re.search(rf"^{target}:", makefile, re.MULTILINE)} == set()


@pytest.mark.parametrize("file", WRITTEN, ids=identity)
def test_commands_exist(file: Path) -> None:
    """Every ``penstock`` command that a page names exists, with the options it is shown with."""
    for words in commands(file, "penstock"):
        command: Any = typer.main.get_command(app)
        options = {"--help"}
        for word in words:
            inner = getattr(command, "commands", {})
            options |= {option for parameter in command.params for option in parameter.opts}
            if word.startswith("--"):
                assert word in options, words
            elif inner:
                assert word in inner, words
                command = inner[word]
                options |= {option for parameter in command.params for option in parameter.opts}


@pytest.mark.parametrize("file", WRITTEN, ids=identity)
def test_paths_exist(file: Path) -> None:
    """Every file or folder of the project that a page names is there."""
    named = {word for code in lines_of_code(file) for word in re.findall(rf"^(?:{ROOMS})/[\w./-]*$", code)}
    missing = {path for path in named if not (PROJECT / path).exists() and path not in BUILT}
    assert missing == set()


def test_links_of_the_readme_lead_somewhere() -> None:
    """Links and pictures of the README exist; those of the other pages the strict build checks."""
    readme = PROJECT / "README.md"
    links = LINK.findall(readme.read_text(encoding="utf-8"))
    assert len(links) > 10
    assert [link for link in links if "://" not in link and not (PROJECT / link).exists()] == []


@pytest.mark.parametrize("file", WRITTEN, ids=identity)
def test_settings_exist(file: Path) -> None:
    """Every setting that a page names is one."""
    known = {".".join(path) for path, _ in names.known()}
    sections = "|".join(sorted({path[0] for path, _ in names.known() if len(path) > 1}))
    text = file.read_text(encoding="utf-8")
    named = {code for code in CODE.findall(text) if re.fullmatch(rf"(?:{sections})\.[a-z_]+", code)}
    assert named <= known


@pytest.mark.parametrize("file", WRITTEN, ids=identity)
def test_metrics_exist(file: Path) -> None:
    """Every metric that a page names is declared."""
    places = (PROJECT / "config" / "telemetry.py", PROJECT / "api" / "metrics.py")
    declared = " ".join(place.read_text(encoding="utf-8") for place in places)
    for name in re.findall(r"`(penstock_[a-z_]+)", file.read_text(encoding="utf-8")):
        assert f'"{name}"' in declared


def test_the_readme_knows_the_port() -> None:
    """The README's example goes to the port where the service listens by default."""
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    assert f"http://127.0.0.1:{Settings().server.port}/v1/jobs" in text


def test_every_decision_is_listed() -> None:
    """The index of decisions leads to each of them."""
    listing = (DOCS / "decisions" / "index.md").read_text(encoding="utf-8")
    pages = {file.name for file in (DOCS / "decisions").glob("*.md")} - {"index.md"}
    assert set(LINK.findall(listing)) == pages


def test_tables_without_a_tenant_have_a_reason() -> None:
    """The record names exactly the tables without ``tenant_id``."""
    text = (DOCS / "decisions" / "tables-without-a-tenant.md").read_text(encoding="utf-8")
    without = {name for name, found in metadata.tables.items() if "tenant_id" not in found.columns}
    assert set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) == without


@pytest.mark.parametrize("file", sorted((DOCS / "decisions").glob("[!i]*.md")), ids=identity)
def test_decisions_have_their_parts(file: Path) -> None:
    """A record says what was the matter, what was decided, what follows, and what was tried or measured."""
    text = file.read_text(encoding="utf-8")
    for part in ("**Context.**", "**Decision.**", "**Consequences.**"):
        assert part in text
    assert len(text.splitlines()) <= 60  # one page


class Resources(HTMLParser):
    """Gathers what a browser would load with a page."""

    LOADED = frozenset(
        {"script", "img", "iframe", "source", "embed", "audio", "video", "object", "image", "use"}
    )

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the addresses of a tag that makes the browser load something."""
        given = dict(attrs)
        if tag in self.LOADED or (tag == "link" and given.get("rel") != "canonical"):
            values = (given.get(name) for name in ("src", "href", "data", "srcset", "poster", "xlink:href"))
            self.found += [value for value in values if value]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built documentation."""
    folder = tmp_path_factory.mktemp("site")
    arguments = ("--quiet", "--config-file", "ops/mkdocs.yml", "--site-dir", str(folder))
    result = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", *arguments],
        cwd=PROJECT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return folder


@pytest.mark.slow
def test_the_strict_build_passes(site: Path) -> None:
    """Every page is built, links and anchors lead somewhere, and the pages in the navigation are there."""
    assert (site / "index.html").is_file()
    assert '<svg class="states"' in (site / "life-of-a-job.html").read_text(encoding="utf-8")
    assert "urn:penstock:problem:validation" in (site / "http.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    """No page makes the browser load a script, style, font or picture from another place."""
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        text = page.read_text(encoding="utf-8")
        outside = [place for place in Resources(text).found if re.match(r"(https?:)?//", place)]
        assert outside == [], page.name
        assert not re.search(r'class="[^"]*\bmermaid\b', text), "Material would fetch mermaid for this"
    for style in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*['\"]?(https?:)?//", style.read_text(encoding="utf-8"))
