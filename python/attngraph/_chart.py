# SPDX-License-Identifier: Apache-2.0
"""One head as an Altair chart."""

from __future__ import annotations

import altair as alt
import numpy as np

from . import _plot, _values
from ._picture import STOPS, label


def chart(graph, kind, layer, head, batch, max_edges):
    _values.one_of(kind, "kind", "heatmap", "arc", "bipartite")
    max_edges = _values.positive(max_edges, "max_edges")
    s = graph._slices[graph._place(layer, head, batch)]
    everything = (s.query_begin, s.query_begin + s.query_count)
    q, k, w = _plot.edges_in(graph, layer, head, batch, everything, (0, s.key_count), 0)
    order = np.argsort(-w, kind="stable")[:max_edges]
    query_word, key_word = _plot.words_of(graph, batch)
    rows = [
        {
            "query": int(a),
            "key": int(b),
            "weight": float(x),
            "query word": label(query_word(int(a)) or ""),
            "key word": label(key_word(int(b)) or ""),
        }
        for a, b, x in zip(q[order], k[order], w[order])
    ]
    cut = f": the heaviest {len(rows):,} of {len(w):,} edges" if len(rows) < len(w) else f": {len(w):,} edges"
    title = f"layer {layer}, head {head}{cut}"
    colour = alt.Color("weight:Q", scale=alt.Scale(range=list(STOPS), type="sqrt", domain=[0, _plot.high_of(graph)]))
    tooltip = ["query:Q", "query word:N", "key:Q", "key word:N", alt.Tooltip("weight:Q", format=".4f")]
    base = alt.Chart(alt.Data(values=rows), title=title)
    offset = graph._query_offset
    if kind == "heatmap":
        few = max(s.query_count, s.key_count) <= 60
        axis = (lambda name: f"{name}:O") if few else (lambda name: f"{name}:Q")
        mark = base.mark_rect() if few else base.mark_square(size=max(2, 90_000 // max(1, s.key_count) ** 2 + 3))
        return mark.encode(
            x=alt.X(axis("key"), scale=alt.Undefined if few else alt.Scale(domain=[0, s.key_count])),
            y=alt.Y(axis("query"), scale=alt.Undefined if few else alt.Scale(domain=list(everything[::-1]))),
            color=colour,
            tooltip=tooltip,
        ).properties(width=420, height=420)
    if kind == "bipartite":
        return (
            base.mark_rule()
            .encode(
                x=alt.X("query:Q", title="queries above, keys below"),
                x2="key:Q",
                y=alt.datum(1),
                y2=alt.datum(0),
                color=colour,
                tooltip=tooltip,
            )
            .properties(width=640, height=240)
        )
    for row in rows:
        row["from"], row["to"], row["height"] = (
            row["query"] + offset,
            row["key"],
            abs(row["query"] + offset - row["key"]),
        )
    # Vega-Lite has no arcs: a half circle is drawn as a line through its points.
    turn = np.linspace(0, np.pi, 13)
    points = [
        {
            **row,
            "edge": n,
            "step": i,
            "x": (row["from"] + row["to"]) / 2 + (row["from"] - row["to"]) / 2 * float(np.cos(t)),
            "y": row["height"] / 2 * float(np.sin(t)),
        }
        for n, row in enumerate(rows)
        for i, t in enumerate(turn)
    ]
    return (
        alt.Chart(alt.Data(values=points), title=title)
        .mark_line(opacity=0.8)
        .encode(
            x=alt.X("x:Q", title="position"),
            y=alt.Y("y:Q", axis=None),
            detail="edge:N",
            order="step:Q",
            color=colour,
            tooltip=tooltip,
        )
        .properties(width=640, height=240)
    )
