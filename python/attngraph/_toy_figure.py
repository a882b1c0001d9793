# SPDX-License-Identifier: Apache-2.0
"""Scatter plots of named points, and grids of them: as SVG, HTML and Altair charts that look alike.

The look, in both: circles of 60 square pixels coloured by group, names left-aligned 5 pixels right of and above the
centre, black rules at x = 0 and y = 0, the same range on both axes.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable
from html import escape
from typing import TYPE_CHECKING, NamedTuple

from ._optional import optional
from .errors import ArgumentError

if TYPE_CHECKING:
    import altair

_SIDE = 300  # of the square between the axes
_CIRCLE = 60  # area
_LABEL = 5  # offset to the right and up
_LINE = 17  # height of a title line
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 34, 18, 46
_LETTER = 6.5  # mean width; names are not measured
_LONGEST = 200  # of a name beyond the axes: room is made for so much
_LEGEND = 128
_COLOURS = ("#4c78a8", "#f58518", "#54a24b", "#e45756", "#72b7b2", "#b279a2", "#9d755d", "#bab0ac")
_FONT = "font-family=\"system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif\""


class Point(NamedTuple):
    """A named point; `group` gives its colour."""

    name: str
    x: float
    y: float
    group: str


class _Figure:
    """Several plots in rows; subclasses say which."""

    def svg(self) -> str:
        """The figure as SVG text, of itself complete."""
        colours = self._colours()
        rows = self._rows()
        heights = [max(plot._height() for plot in row) for row in rows]
        panel_width = max((plot._width() for row in rows for plot in row), default=0)
        plots_width = max((len(row) for row in rows), default=0) * panel_width
        width, height = plots_width + _LEGEND, sum(heights)
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            f'role="img" {_FONT} font-size="11">',
            f"<title>{_text(self._headline())}</title>",
            f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        ]
        top = 0
        for row, row_height in zip(rows, heights):
            for column, plot in enumerate(row):
                below_title = top + row_height - plot._height()  # titles may differ in length; axes stand in line
                parts.append(f'<g transform="translate({column * panel_width} {below_title})">')
                parts += plot._panel(colours)
                parts.append("</g>")
            top += row_height
        parts += _legend(colours, plots_width)
        parts.append("</svg>")
        return "\n".join(parts) + "\n"

    def html(self) -> str:
        """The figure as a complete HTML page that loads nothing."""
        return (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{_text(self._headline())}</title>\n"
            "<style>body { margin: 2rem auto; max-width: max-content; background: #fff }\n"
            "svg { max-width: 100%; height: auto }</style>\n</head>\n<body>\n"
            f"{self.svg()}</body>\n</html>\n"
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the figure to a file, .svg or .html by its suffix."""
        kind = os.path.splitext(os.fspath(path))[1]
        if kind not in (".svg", ".html"):
            raise ArgumentError(f"the name ends with {kind!r}; a figure is .svg or .html")
        with open(path, "w", encoding="utf-8") as file:
            file.write(self.svg() if kind == ".svg" else self.html())

    def _repr_svg_(self) -> str:
        return self.svg()

    def _colours(self):
        """The colour of every group, by the order of their names as in Vega, so that both pictures agree."""
        groups = sorted({point.group for row in self._rows() for plot in row for point in plot.points})
        return {group: _COLOURS[place % len(_COLOURS)] for place, group in enumerate(groups)}


class Scatter(_Figure):
    """One plot: points under a title of one or more lines."""

    def __init__(self, points: Iterable[Point], title: str | Iterable[str]):
        self.points = [Point(*point) for point in points]
        self.title = [title] if isinstance(title, str) else list(title)

    def __repr__(self) -> str:
        return f"<attngraph.toy.Scatter: {len(self.points)} points>"

    @property
    def domain(self) -> tuple[float, float]:
        """(least, greatest) value on both axes: all points and 0, and room for the names at the border."""
        values = [value for point in self.points for value in (point.x, point.y)] + [0.0]
        least, greatest = min(values), max(values)
        room = 0.08 * (greatest - least) or 1.0
        return least - room, greatest + room

    def chart(self) -> altair.LayerChart:
        """The plot as an Altair chart."""
        alt = optional("altair", "chart")
        rows = [{"word": p.name, "x": p.x, "y": p.y, "group": p.group} for p in self.points]
        axis = alt.Scale(domain=list(self.domain), nice=False, zero=False)
        points = (
            alt.Chart(alt.Data(values=rows))
            .mark_circle(size=_CIRCLE, opacity=1)
            .encode(
                x=alt.X("x:Q", title="x", scale=axis),
                y=alt.Y("y:Q", title="y", scale=axis),
                color=alt.Color("group:N", title="Group", scale=alt.Scale(range=list(_COLOURS))),
                tooltip=["word:N", "group:N", alt.Tooltip("x:Q", format=".3f"), alt.Tooltip("y:Q", format=".3f")],
            )
        )
        names = points.mark_text(align="left", dx=_LABEL, dy=-_LABEL).encode(text="word:N")
        rule_x = alt.Chart(alt.Data(values=[{}])).mark_rule(color="black").encode(x=alt.datum(0))
        rule_y = alt.Chart(alt.Data(values=[{}])).mark_rule(color="black").encode(y=alt.datum(0))
        layers = alt.layer(rule_x, rule_y, points, names)
        return layers.properties(width=_SIDE, height=_SIDE, title=alt.TitleParams(text=self.title))

    def _rows(self):
        return [[self]]

    def _headline(self):
        return self.title[0] if self.title else ""

    def _width(self):
        """Of the panel: a long name near the right border gets its room."""
        least, greatest = self.domain
        ends = (_LETTER * len(p.name) - _SIDE * (greatest - p.x) / (greatest - least) for p in self.points)
        return _LEFT + _SIDE + max(_RIGHT, min(_LONGEST, math.ceil(max(ends, default=0)) + 20))

    def _height(self):
        return _TOP + _LINE * len(self.title) + _SIDE + _BOTTOM

    def _panel(self, colours):
        """The elements of one plot, the corner of its panel at 0, 0."""
        least, greatest = self.domain
        top = _TOP + _LINE * len(self.title)

        def across(x):
            return round(_LEFT + _SIDE * (x - least) / (greatest - least), 2)

        def down(y):
            return round(top + _SIDE * (greatest - y) / (greatest - least), 2)

        right, bottom = _LEFT + _SIDE, top + _SIDE
        for number, line in enumerate(self.title):
            weight = "600" if number == 0 else "400"
            yield (
                f'<text x="{_LEFT + _SIDE // 2}" y="{_TOP + _LINE * number + 4}" text-anchor="middle" font-size="13" '
                f'font-weight="{weight}" fill="#1b1e23">{_text(line)}</text>'
            )
        yield f'<rect x="{_LEFT}" y="{top}" width="{_SIDE}" height="{_SIDE}" fill="none" stroke="#dfe3e8"/>'
        for value, label in _ticks(least, greatest):
            x, y = across(value), down(value)
            yield f'<path d="M{x} {top}V{bottom}M{_LEFT} {y}H{right}" stroke="#eceff3" fill="none"/>'
            yield f'<text x="{x}" y="{bottom + 16}" text-anchor="middle" fill="#5b6470">{label}</text>'
            yield f'<text x="{_LEFT - 8}" y="{y + 4}" text-anchor="end" fill="#5b6470">{label}</text>'
        yield f'<text x="{_LEFT + _SIDE // 2}" y="{bottom + 34}" text-anchor="middle" fill="#5b6470">x</text>'
        yield f'<text x="{_LEFT - 38}" y="{top + _SIDE // 2 + 4}" text-anchor="middle" fill="#5b6470">y</text>'
        yield f'<line x1="{across(0)}" y1="{top}" x2="{across(0)}" y2="{bottom}" stroke="black"/>'
        yield f'<line x1="{_LEFT}" y1="{down(0)}" x2="{right}" y2="{down(0)}" stroke="black"/>'
        places = [(across(p.x), down(p.y)) for p in self.points]
        for point, (x, y) in zip(self.points, places):
            yield (
                f'<circle cx="{x}" cy="{y}" r="{math.sqrt(_CIRCLE / math.pi):.3f}" fill="{colours[point.group]}">'
                f"<title>{_text(point.name)} ({_text(point.group)}): {point.x:.3f}, {point.y:.3f}</title></circle>"
            )
        for point, (x, y) in zip(self.points, _label_places(self.points, places)):
            # The white edge keeps a name readable where it crosses a rule.
            yield (
                f'<text x="{x}" y="{y}" text-anchor="start" fill="{colours[point.group]}" stroke="#ffffff" '
                f'stroke-width="3" stroke-linejoin="round" paint-order="stroke">{_text(point.name)}</text>'
            )


class Grid(_Figure):
    """Plots in rows of `columns`."""

    def __init__(self, plots: Iterable[Scatter], columns: int = 2):
        if columns < 1:
            raise ArgumentError(f"columns is {columns}; it is at least 1")
        self.plots = list(plots)
        self.columns = columns

    def __repr__(self) -> str:
        return f"<attngraph.toy.Grid: {len(self.plots)} plots>"

    def chart(self) -> altair.VConcatChart:
        """The grid as an Altair chart."""
        alt = optional("altair", "chart")
        return alt.vconcat(*(alt.hconcat(*(plot.chart() for plot in row)) for row in self._rows()))

    def _rows(self):
        return [self.plots[first : first + self.columns] for first in range(0, len(self.plots), self.columns)]

    def _headline(self):
        return "; ".join(plot._headline().rstrip(":") for plot in self.plots)


def _legend(colours, left):
    if not colours:
        return
    yield f'<text x="{left}" y="{_TOP + 4}" font-weight="600" fill="#1b1e23">Group</text>'
    for place, (group, colour) in enumerate(colours.items()):
        y = _TOP + 22 + 18 * place
        yield f'<circle cx="{left + 5}" cy="{y - 4}" r="{math.sqrt(_CIRCLE / math.pi):.3f}" fill="{colour}"/>'
        yield f'<text x="{left + 16}" y="{y}" fill="#1b1e23">{_text(group)}</text>'


def _ticks(least, greatest):
    """Some four to eight round values between the ends, with their texts."""
    rough = (greatest - least) / 8
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    for count in range(math.ceil(least / step), math.floor(greatest / step) + 1):
        value = count * step
        text = f"{value:.{decimals}f}" if 1e-4 < step < 1e4 else f"{value:.2g}"
        yield value, text.replace("-", "\N{MINUS SIGN}")


def _label_places(points, places):
    """Where names stand: at the offset, or stepwise lower where an earlier name already stands there."""
    taken = []
    for point, (x, y) in zip(points, places):
        width = _LETTER * len(point.name)
        for step in range(len(points)):
            at = (x + _LABEL, round(y - _LABEL + 13 * step, 2))
            if not any(at[0] < b[0] + b[2] and b[0] < at[0] + width and abs(at[1] - b[1]) < 11 for b in taken):
                break
        taken.append((*at, width))
        yield at


def _text(text):
    """Text as XML can hold it: escaped, and without the characters that XML does not have."""
    return escape(re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\N{REPLACEMENT CHARACTER}", text))
