# SPDX-License-Identifier: Apache-2.0
"""Questions to many graphs: what each answers, and how the answers become one. Whoever asks, here or on many machines,
gets the same, because answers are put together in the order of the data set."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..records import SweepRow
from ..tables import Table


def sweep_of(graph: Any, thresholds: list[float]) -> list[tuple[SweepRow, int]]:
    rows = sum(int((graph._result.rows(place)[2] >= 0).sum()) for place in range(len(graph._slices)))
    return [(row, rows) for row in graph.sweep(thresholds)]


def together_sweep(answers: Iterable[list[tuple[SweepRow, int]]], thresholds: list[float]) -> list[SweepRow]:
    totals = [[0, 0.0, 0, 0] for _ in thresholds]
    for answer in answers:
        for total, (row, rows) in zip(totals, answer):
            total[0] += row.edges
            total[1] += row.kept_mass * rows
            total[2] += row.nodes
            total[3] += rows
    return [
        SweepRow(threshold, edges, mass / rows if rows else 0.0, nodes)
        for threshold, (edges, mass, nodes, rows) in zip(thresholds, totals)
    ]


def top_of(graph: Any, n: int, doc: str) -> list[tuple]:
    return [(doc, *edge) for edge in graph.top(n)]


def together_top(answers: Iterable[list[tuple]], n: int, rank: dict[str, int]) -> Table:
    """The n heaviest of all, ties in the order of documents and tables."""
    every = (edge for answer in answers for edge in answer)
    best = heapq.nsmallest(n, every, key=lambda edge: (-edge[6], rank[edge[0]], *edge[1:6]))
    names = ("doc", "batch", "layer", "head", "query", "key", "weight")
    columns = list(zip(*best)) or [() for _ in names]
    types = (str, *(np.int64,) * 5, np.float64)
    return Table({name: np.array(column, dtype=kind) for name, column, kind in zip(names, columns, types)})


def heads_of(graph: Any, window: int, doc: str) -> dict[str, np.ndarray]:
    table = graph.heads(window=window).to_dict()
    return {"doc": np.full(len(table["head"]), doc), **table}


def together_heads(answers: Iterable[dict[str, np.ndarray]]) -> Table:
    answers = list(answers)
    if not answers:
        return Table({})
    # What some part does not know is not known of the whole.
    names = [name for name in answers[0] if all(name in answer for answer in answers)]
    return Table({name: np.concatenate([answer[name] for answer in answers]) for name in names})
