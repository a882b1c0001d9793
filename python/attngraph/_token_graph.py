# SPDX-License-Identifier: Apache-2.0
"""Attention between positions as sparse matrices: a matrix for each layer, or one of all; and what is asked of them."""

import numpy as np

from . import _values
from ._operations import aggregate, parts, row_numbers
from ._optional import optional
from .errors import ArgumentError, NotFoundError, ShapeError
from .records import Csr, Flow, Slice
from .tables import Table

_PAGERANK_CHANGE = 1e-13  # of a step, summed over the positions; the rest is at most damping / (1 - damping) of it


def layer_matrices(graph, residual, fusion, without_first, caller):
    """(batch, layer, matrix [query, key]), layers ascending: the heads of a layer joined, rows renormalised to 1 and mixed
    with the identity; a row without edges passes on its own position."""
    residual = _values.number(residual, "residual")
    if not 0 <= residual <= 1:
        raise ArgumentError(f"residual is {residual}; it is in [0, 1]")
    _values.one_of(fusion, "fusion", "mean", "max")
    if graph._result.two_sided():
        raise ShapeError(f"{caller} needs queries and keys of one sequence; these are two")
    sparse = optional("scipy.sparse", caller, "scipy")
    for s, csr, _ in parts(aggregate(graph.filter(without_first=True) if without_first else graph, fusion, "head")):
        if s.query_begin != 0 or s.query_count != s.key_count:
            raise ShapeError(
                f"{caller} needs as many queries as keys; layer {s.layer} has the queries {s.query_begin} to "
                f"{s.query_begin + s.query_count} and {s.key_count} keys"
            )
        attention = sparse.csr_array((csr.data, csr.indices, csr.indptr), shape=(s.query_count, s.key_count))
        total = np.asarray(attention.sum(axis=1)).ravel()
        empty = total == 0
        share = np.divide(1 - residual, total, where=~empty, out=np.zeros_like(total))
        yield s.batch, s.layer, sparse.diags_array(share) @ attention + sparse.diags_array(np.where(empty, 1.0, residual))


def rollout(graph, residual, threshold, fusion, without_first):
    threshold = _values.number(threshold, "threshold")
    products = {}
    for batch, layer, mixed in layer_matrices(graph, residual, fusion, without_first, "rollout"):
        before = products.get(batch)
        if before is not None and before.shape != mixed.shape:
            raise ShapeError(f"layer {layer} has {mixed.shape[0]} positions, the layers before {before.shape[0]}")
        products[batch] = mixed if before is None else mixed @ before
    from ._making import from_slices

    facts = {"weights": f"rollout, residual {residual:g}", "threshold": repr(float(threshold))}
    slices = (_kept(batch, product.tocsr(), threshold) for batch, product in sorted(products.items()))
    return from_slices(slices, graph.labels("keys"), facts, report=graph.report)


def _kept(batch, matrix, threshold):
    matrix.sort_indices()
    keep = (matrix.data >= threshold) & (matrix.data > 0)
    rows = row_numbers(matrix.indptr)[keep]
    n = matrix.shape[0]
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n))])
    csr = Csr(indptr, matrix.indices[keep], matrix.data[keep])
    return Slice(batch, 0, 0, 0, n, n, len(csr.indices)), csr


def flow(graph, query, key, residual, fusion, without_first, batch):
    igraph = optional("igraph", "flow")
    query, key, batch = (
        _values.integer(value, name, least=0) for value, name in ((query, "query"), (key, "key"), (batch, "batch"))
    )
    matrices = layer_matrices(graph, residual, fusion, without_first, "flow")
    layers = [(layer, matrix.tocsr()) for b, layer, matrix in matrices if b == batch]
    if not layers:
        raise NotFoundError(f"the graph has no batch {batch}")
    sizes = {matrix.shape[0] for _, matrix in layers}
    if len(sizes) > 1:
        raise ShapeError(f"the layers have different numbers of positions: {sorted(sizes)}")
    count = sizes.pop()
    if query >= count or key >= count:
        raise ArgumentError(f"query is {query} and key {key}; the graph has {count} positions")

    # Only edges on some way from the key to the query: forward from the one, then back from the other.
    reached = [np.arange(count) == key]
    for _, matrix in layers:
        reached.append(matrix @ reached[-1].astype(np.float64) > 0)
    wanted = np.arange(count) == query
    tails, heads, capacities, places = [], [], [], []
    for depth, (layer, matrix) in reversed(list(enumerate(layers))):
        rows = row_numbers(matrix.indptr)
        keep = np.flatnonzero(wanted[rows] & reached[depth][matrix.indices] & (matrix.data > 0))
        rows, columns = rows[keep], matrix.indices[keep]
        tails.append(depth * count + columns.astype(np.int64))
        heads.append((depth + 1) * count + rows)
        capacities.append(matrix.data[keep])
        places.append(np.column_stack([np.full(len(rows), layer), rows, columns]))
        wanted = np.zeros(count, bool)
        wanted[columns] = True
    tails, heads, capacities, places = (np.concatenate(lists[::-1]) for lists in (tails, heads, capacities, places))
    if not reached[-1][query]:
        value, carried = 0.0, np.zeros(0)
        places = places[:0]
    else:
        source, target = key, len(layers) * count + query
        nodes, ends = np.unique(np.concatenate([tails, heads]), return_inverse=True)
        network = igraph.Graph(len(nodes), np.column_stack(np.split(ends, 2)), directed=True)
        found = network.maxflow(*np.searchsorted(nodes, [source, target]).tolist(), capacity=capacities.tolist())
        value, carried = found.value, np.array(found.flow)
    used = carried > 0
    columns = dict(zip(("layer", "query", "key"), places[used].T), flow=carried[used])
    return Flow(float(value), Table(columns))


def token_matrix(graph, batch, caller):
    """All heads and layers of a sequence as one matrix [position, position] of summed weights."""
    sparse = optional("scipy.sparse", caller, "scipy")
    batch = _values.integer(batch, "batch", least=0)
    if graph._result.two_sided():
        raise ShapeError(f"{caller} needs queries and keys of one sequence; these are two")
    wanted = [(s, csr) for s, csr, _ in parts(graph) if s.batch == batch]
    if not wanted:
        raise NotFoundError(f"the graph has no batch {batch}")
    count = graph._positions()
    rows = [(row_numbers(csr.indptr) + (s.query_begin + graph._query_offset)).astype(np.int32) for s, csr in wanted]
    keys = np.concatenate([csr.indices for _, csr in wanted])
    weights = np.concatenate([csr.data for _, csr in wanted]).astype(np.float64)
    return sparse.coo_array((weights, (np.concatenate(rows), keys)), shape=(count, count)).tocsr()


def pagerank(graph, damping, batch):
    damping = _values.number(damping, "damping")
    if not 0 <= damping < 1:
        raise ArgumentError(f"damping is {damping}; it is at least 0, below 1")
    matrix = token_matrix(graph, batch, "pagerank")
    count = matrix.shape[0]
    total = np.asarray(matrix.sum(axis=1)).ravel()
    ends = total == 0  # positions that point nowhere jump anywhere
    share = np.divide(1.0, total, where=~ends, out=np.zeros_like(total))
    onward = matrix.T.tocsr()
    rank = np.full(count, 1 / count)
    while True:
        new = damping * (onward @ (rank * share) + rank[ends].sum() / count) + (1 - damping) / count
        new /= new.sum()
        change = np.abs(new - rank).sum()
        rank = new
        if change <= _PAGERANK_CHANGE:
            return rank


def components(graph, connection, batch):
    _values.one_of(connection, "connection", "weak", "strong")
    csgraph = optional("scipy.sparse.csgraph", "components", "scipy")
    matrix = token_matrix(graph, batch, "components")
    return csgraph.connected_components(matrix, directed=True, connection=connection)[1]
