# SPDX-License-Identifier: Apache-2.0
"""The heaviest way of a key through the layers to a query: dynamic programming over the edges, layer by layer."""

import numpy as np

from . import _values
from ._operations import parts, row_numbers
from .errors import ArgumentError, NotFoundError, ShapeError
from .tables import Table


def heaviest_path(graph, query, key, residual, batch):
    residual = _values.number(residual, "residual")
    if not 0 <= residual < 1:
        raise ArgumentError(f"residual is {residual}; it is at least 0, below 1")
    query, key, batch = (
        _values.integer(value, name, least=0) for value, name in ((query, "query"), (key, "key"), (batch, "batch"))
    )
    if graph._result.two_sided():
        raise ShapeError("a path needs queries and keys of one sequence; these are two")
    layers = {}
    for s, csr, _ in parts(graph):
        if s.batch != batch:
            continue
        if s.query_begin != 0 or s.query_count != s.key_count:
            raise ShapeError(f"a path needs as many queries as keys; layer {s.layer} has {s.query_count} and {s.key_count}")
        layers.setdefault(s.layer, []).append((s.head, csr))
    if not layers:
        raise NotFoundError(f"the graph has no batch {batch}")
    sizes = {len(csr.indptr) - 1 for heads in layers.values() for _, csr in heads}
    if len(sizes) > 1:
        raise ShapeError(f"the layers have different numbers of positions: {sorted(sizes)}")
    count = sizes.pop()
    if query >= count or key >= count:
        raise ArgumentError(f"query is {query} and key {key}; the graph has {count} positions")

    best = np.zeros(count)  # of the ways from the key to every position, so far
    best[key] = 1
    steps = []
    for layer in sorted(layers):
        reach, head_of, came_from = residual * best, np.full(count, -1), np.arange(count)
        for head, csr in layers[layer]:
            values = (1 - residual) * csr.data.astype(np.float64) * best[csr.indices]
            row = row_numbers(csr.indptr)
            found = np.zeros(count)
            np.maximum.at(found, row, values)
            better = found > reach
            hits = np.flatnonzero(better[row] & (values == found[row]))[::-1]  # the smallest key of equals, written last
            head_of[row[hits]], came_from[row[hits]] = head, csr.indices[hits]
            reach = np.maximum(reach, found)
        steps.append((layer, head_of, came_from, best))
        best = reach
    if best[query] == 0:
        raise NotFoundError(f"no edges lead from key {key} to query {query} through these layers; lower the threshold")
    rows, at = [], query
    for layer, head_of, came_from, before in reversed(steps):
        rows.append((layer, head_of[at], at, came_from[at], best[at] / before[came_from[at]]))
        best, at = before, came_from[at]
    names = ("layer", "head", "query", "key", "weight")
    return Table(dict(zip(names, map(np.array, zip(*rows[::-1])))))
