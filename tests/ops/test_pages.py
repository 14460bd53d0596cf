"""The pages that are made from the code: complete, and readable as Markdown."""

from __future__ import annotations

import inspect
import re

import pytest

from api import metrics as queue_figures
from api.problems import Kind
from config import names, telemetry
from migrations.metadata import metadata
from models.states import TERMINAL, State
from ops.pages import GENERATED, INSERTED, commands, configuration, diagram, http, metrics, tables
from ops.pages.markdown import anchor, cell, prose, table
from ops.pages.schema import type_of, without_null


def test_configuration_shows_every_setting() -> None:
    """Each setting stands on the page with its variable."""
    page = configuration.page()
    for path, _ in names.known():
        assert f"| `{'.'.join(path)}` |" in page
        assert f"`{names.variable(path)}`" in page


def test_configuration_tells_types_and_limits() -> None:
    """Types are words, limits are with them, and secrets are named as such."""
    page = configuration.page()
    assert "| `server.port` | integer, ≥ 0, ≤ 65535 | `8180` |" in page
    assert "| `broker.kind` | `sql` or `redis` |" in page
    assert "| `database.url` | text, secret |  |" in page


def test_http_shows_every_route_and_body() -> None:
    """Each route, parameter and body of the OpenAPI document stands on the page."""
    page, document = http.page(), http.document()
    for path, operations in document["paths"].items():
        for method in operations:
            assert f"### `{method.upper()} {path}` " in page
    for name in document["components"]["schemas"]:
        assert f"### {name} {{ #{anchor(name)} }}" in page
    links = set(re.findall(r"\(#([a-z0-9-]+)\)", page))
    assert links <= set(re.findall(r"\{ #([a-z0-9-]+) \}", page))


def test_problems_are_all_listed() -> None:
    """Each kind of problem stands in the table."""
    assert all(kind.type in http.problems() for kind in Kind)


def test_commands_are_all_shown() -> None:
    """Every command of the console script has a section."""
    page = commands.page()
    for name in ("up", "api", "worker inference", "worker errands", "migrate", "submit", "jobs", "job show"):
        assert f"## penstock {name} {{" in page
    for name in ("key create", "doctor", "bench", "demo"):
        assert f"## penstock {name} {{" in page


def test_metrics_are_all_shown() -> None:
    """Each declared metric stands on the page under the name by which it is scraped."""
    page = metrics.page()
    scraped = re.findall(r"^# TYPE (\S+)", telemetry.scrape().decode(), re.MULTILINE)
    ours = {name for name in scraped if name.startswith("penstock_") and not name.endswith("_created")}
    assert {name for name in ours if f"`{name}`" not in page} == set()


def test_queue_figures_are_all_named() -> None:
    """The figures that the API reads from the database stand on the page too."""
    named = re.findall(r'"(penstock_\w+)"', inspect.getsource(queue_figures))
    assert len(named) > 1
    assert all(f"`{name}`" in metrics.page() for name in named)


def test_tables_are_all_shown() -> None:
    """Each table of the database has a section with its columns."""
    page = tables.page()
    assert metadata.tables
    for name, found in metadata.tables.items():
        section = page[page.index(f"## {name}\n") :]
        assert all(f"| `{column.name}` |" in section for column in found.columns)


def test_the_picture_shows_every_state_and_way() -> None:
    """Each state is a box, ends are marked, and each transition has a line and its name."""
    picture = diagram.svg()
    assert len(re.findall(r'<g class="end">', picture)) == len(TERMINAL)
    assert all(f">{state.value}</text>" in picture for state in State)
    assert picture.count('<path class="line"') == picture.count('<text class="way"') == len(diagram.arrows())


def test_the_fence_keeps_the_text() -> None:
    """A block of mermaid becomes the picture, with the block itself for those who cannot see it."""
    html = diagram.fence("a --> b", "mermaid", "states", {}, None)
    assert "<svg" in html
    assert "a --&gt; b" in html


@pytest.mark.parametrize("place", [name for name in GENERATED if name != "pico-card.md"])
def test_pages_begin_with_a_title(place: str) -> None:
    """Every generated page has a title and no piece of a docstring's own markup."""
    page = GENERATED[place]()
    assert page.startswith("# ")
    assert ":class:`" not in page
    assert "``" not in page.replace("```", "")


def test_pieces_go_where_they_are_asked_for() -> None:
    """A written page gets a generated piece in place of its mark."""
    from ops.pages.hook import on_page_markdown

    mark = next(iter(INSERTED))
    assert mark not in on_page_markdown(f"before\n{mark}\nafter")
    assert on_page_markdown("nothing asked for") == "nothing asked for"


def test_markdown_is_kept_on_its_line() -> None:
    """Bars and line ends in a cell cannot break a table; an empty table is none."""
    assert cell("a | b\nc") == "a \\| b c"
    assert table(("x",), []) == []
    assert table(("x",), [("1",)]) == ["| x |", "|---|", "| 1 |", ""]
    assert prose("Uses :class:`~a.B` and ``c``.\n\nMore.") == "Uses `a.B` and `c`."


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "integer", "minimum": 1, "maximum": 20}, "integer, ≥ 1, ≤ 20"),
        ({"type": "integer", "exclusiveMaximum": 2**63}, "integer, < 2^63"),
        ({"type": "string", "format": "date-time"}, "time"),
        ({"type": "string", "minLength": 1}, "text, not empty"),
        ({"type": "string", "minLength": 1, "maxLength": 64}, "text, 1 to 64 characters"),
        ({"type": "array", "items": {"$ref": "#/x/A"}, "minItems": 2}, "list of [A](#a), at least 2 items"),
        ({"anyOf": [{"type": "number"}, {"type": "null"}]}, "number or null"),
        ({"enum": ["a", "b"]}, '`"a"` or `"b"`'),
        ({"const": "job"}, '`"job"`'),
        ({"type": "object", "additionalProperties": {"type": "string"}}, "object of text"),
        ({}, "any value"),
    ],
)
def test_schemas_in_words(schema: dict[str, object], words: str) -> None:
    """Types and limits of JSON Schema are told in words."""
    assert type_of(schema) == words


def test_null_is_not_told_of_parameters() -> None:
    """What may be left out is shown as it is when it is given."""
    assert without_null({"anyOf": [{"type": "number"}, {"type": "null"}]}) == {"type": "number"}
    assert without_null({"type": "string"}) == {"type": "string"}
