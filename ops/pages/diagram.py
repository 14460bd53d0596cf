"""The states of a job as a picture, drawn from :data:`models.states.TRANSITIONS`.

Material would fetch mermaid from another site to draw the block that stands in
the page; this draws it instead, with the colours of the page it stands in.
"""

from __future__ import annotations

from html import escape
from math import hypot
from typing import Any

from models.states import TERMINAL, TRANSITIONS, State

Point = tuple[float, float]

_PLACES: dict[State, Point] = {
    State.SCHEDULED: (78, 135),
    State.QUEUED: (306, 135),
    State.RUNNING: (534, 135),
    State.SUCCEEDED: (758, 55),
    State.FAILED: (758, 215),
    State.EXPIRED: (176, 315),
    State.CANCELLED: (436, 315),
}
_BENDS = {"retry": -190.0, "hand_back": -72.0}
"""How far a transition is drawn to the left of the straight line, in its direction; negative is right."""

_LABELS_AT = {("expire", State.QUEUED): 0.26, ("cancel", State.SCHEDULED): 0.68}
"""Where on its line a name stands, if not half-way: two lines cross."""

_WIDTH, _HEIGHT = 836, 350
_HALF: Point = (66, 24)

_STYLE = """\
.states{max-width:100%;height:auto}
.states text{font:600 15px system-ui,sans-serif;text-anchor:middle;dominant-baseline:central;\
fill:var(--md-default-fg-color,#222)}
.states .way{font-weight:400;font-style:italic;font-size:14px;paint-order:stroke;stroke-width:7px;\
stroke:var(--md-default-bg-color,#fff);stroke-linejoin:round}
.states rect{fill:var(--md-code-bg-color,#f5f5f5);stroke:var(--md-default-fg-color--light,#777);\
stroke-width:1.5}
.states .end rect{stroke-width:3.5}
.states path.line{fill:none;stroke:var(--md-default-fg-color--light,#777);stroke-width:1.6}
.states marker path{fill:var(--md-default-fg-color--light,#777)}
"""
_TIP = """\
<defs><marker id="states-tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="9" markerHeight="9" \
orient="auto-start-reverse"><path d="M0 1 9 5 0 9z"/></marker></defs>"""


def fence(source: str, language: str, css_class: str, options: Any, md: Any, **_more: Any) -> str:  # noqa: ARG001 (the signature of a custom fence)
    """A block of mermaid as a picture, and as text for those who cannot see it."""
    text = f"<pre><code>{escape(source)}</code></pre>"
    return f"<figure>{svg()}</figure>\n<details><summary>The same as text</summary>{text}</details>"


def svg() -> str:
    """The picture, for use within a page."""
    size = f'width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
    lines = [
        f'<svg class="states" {size} role="img" aria-label="States of a job">',
        f"<style>{_STYLE}</style>",
        _TIP,
        *(_line(way, start, end) for way, start, end in arrows()),
        *(_box(state) for state in State),
        *(_name(way, start, end) for way, start, end in arrows()),
        "</svg>",
    ]
    return "".join(lines)


def arrows() -> list[tuple[str, State, State]]:
    """Each transition as its name, the state it leaves and the one it leads to."""
    return [
        (way, start, end) for way, (starts, end) in TRANSITIONS.items() for start in State if start in starts
    ]


def _box(state: State) -> str:
    x, y = _PLACES[state]
    kind = ' class="end"' if state in TERMINAL else ""
    width, height = 2 * _HALF[0], 2 * _HALF[1]
    place = f'x="{x - _HALF[0]:g}" y="{y - _HALF[1]:g}" width="{width:g}" height="{height:g}" rx="12"'
    return f'<g{kind}><rect {place}/><text x="{x:g}" y="{y:g}">{state.value}</text></g>'


def _line(way: str, start: State, end: State) -> str:
    (x0, y0), (cx, cy), (x1, y1) = _curve(way, start, end)
    path = f"M{x0:.0f} {y0:.0f}Q{cx:.0f} {cy:.0f} {x1:.0f} {y1:.0f}"
    return f'<path class="line" d="{path}" marker-end="url(#states-tip)"/>'


def _name(way: str, start: State, end: State) -> str:
    t = _LABELS_AT.get((way, start), 0.5)
    curve = _curve(way, start, end)
    shares = ((1 - t) ** 2, 2 * t * (1 - t), t**2)
    x, y = (sum(share * point[axis] for share, point in zip(shares, curve, strict=True)) for axis in (0, 1))
    return f'<text class="way" x="{x:.0f}" y="{y:.0f}">{way}</text>'


def _curve(way: str, start: State, end: State) -> tuple[Point, Point, Point]:
    """Start, control point and end of a transition's line."""
    (x0, y0), (x1, y1) = _PLACES[start], _PLACES[end]
    dx, dy = x1 - x0, y1 - y0
    bend = _BENDS.get(way, 0.0) / hypot(dx, dy)
    control = ((x0 + x1) / 2 + dy * bend, (y0 + y1) / 2 - dx * bend)
    return _edge((x0, y0), control), control, _edge((x1, y1), control)


def _edge(centre: Point, toward: Point) -> Point:
    """Where the line from a box's centre leaves the box."""
    dx, dy = toward[0] - centre[0], toward[1] - centre[1]
    share = min(half / abs(way) for half, way in zip(_HALF, (dx, dy), strict=True) if way)
    return centre[0] + dx * share, centre[1] + dy * share
