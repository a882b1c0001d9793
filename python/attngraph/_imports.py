# SPDX-License-Identifier: Apache-2.0
"""Graphs out of the tables and graphs of other programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ._making import from_slices
from ._optional import optional
from .errors import ArgumentError, DtypeError, NonfiniteError
from .graph import Graph
from .records import Csr, Slice

if TYPE_CHECKING:
    import networkx
    import pandas


def from_pandas(
    frame: pandas.DataFrame,
    *,
    tokens: Sequence[str | bytes] | None = None,
    queries: int | None = None,
    keys: int | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Graph:
    """Make a graph out of a table of edges, as `Graph.to_pandas` makes one, in any order of rows.

    Parameters
    ----------
    frame : pandas.DataFrame or mapping of arrays
        With the columns query, key and weight, and batch, layer and head where there are several.
    tokens : sequence of str or bytes, optional
        Labels of the positions, one per key. The columns query_token and key_token are not read.
    queries, keys : int, optional
        How many there are; unless given, as many as the tokens, or as the largest number in the table says.
    metadata : dict of str to str, optional
        Facts that travel with the graph.

    Returns
    -------
    Graph
        What a table does not say is not known: logsumexp, maximum and entropy of rows, eps and borderline pairs.

    Examples
    --------
    >>> import attngraph as ag
    >>> g = ag.from_matrix([[1.0, 0.0], [0.25, 0.75]], threshold=0.2)
    >>> bool(ag.from_pandas(g.to_pandas()).diff(g))  # doctest: +NEEDS(pandas)
    False
    """
    missing = [name for name in ("query", "key", "weight") if name not in frame]
    if missing:
        raise ArgumentError(f"the table has no column {', '.join(missing)}; it needs query, key and weight")
    columns = {name: _integers(frame[name], name) for name in ("query", "key")}
    weight = np.asarray(frame["weight"])
    if weight.dtype != np.float32:
        weight = weight.astype(np.float64)
    wrong = np.flatnonzero(~np.isfinite(weight))
    if wrong.size:
        raise NonfiniteError(f"row {wrong[0]} has the weight {weight[wrong[0]]}; weights are finite")
    for name in ("batch", "layer", "head"):
        columns[name] = _integers(frame[name], name) if name in frame else np.zeros(len(weight), np.int64)
    order = np.lexsort([columns[name] for name in ("key", "query", "head", "layer", "batch")])
    columns = {name: values[order] for name, values in columns.items()}
    weight = weight[order]
    same = np.ones(max(len(weight) - 1, 0), bool)
    for values in columns.values():
        same &= values[1:] == values[:-1]
    if same.any():
        at = int(order[np.flatnonzero(same)[0] + 1])
        raise ArgumentError(f"row {at} is a second edge of the same batch, layer, head, query and key")
    keys = _count(keys, None if tokens is None else len(tokens), columns["key"], "keys")
    queries = _count(queries, keys, columns["query"], "queries")
    labels = np.stack([columns[name] for name in ("batch", "layer", "head")], axis=1)
    starts = np.flatnonzero(np.r_[True, (labels[1:] != labels[:-1]).any(1)]) if len(labels) else np.empty(0, int)
    slices = []
    for begin, end in zip(starts, np.r_[starts[1:], len(labels)]):
        counts = np.bincount(columns["query"][begin:end], minlength=queries)
        csr = Csr(np.r_[0, np.cumsum(counts)], columns["key"][begin:end], weight[begin:end])
        slices.append((Slice(*labels[begin].tolist(), 0, queries, keys, int(end - begin)), csr))
    return from_slices(slices, tokens, metadata)


def from_arrow(
    table: Any,
    *,
    tokens: Sequence[str | bytes] | None = None,
    queries: int | None = None,
    keys: int | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Graph:
    """Make a graph out of an Arrow table or stream of edges (pyarrow, polars, DuckDB), as `from_pandas`.

    Examples
    --------
    >>> import attngraph as ag
    >>> g = ag.from_matrix([[1.0, 0.0], [0.25, 0.75]], threshold=0.2)
    >>> bool(ag.from_arrow(g.to_arrow()).diff(g))  # doctest: +NEEDS(pyarrow)
    False
    """
    arrow = optional("pyarrow", "from_arrow")
    table = arrow.table(table)
    wanted = [name for name in ("batch", "layer", "head", "query", "key", "weight") if name in table.column_names]
    columns = {name: table[name].to_numpy() for name in wanted}
    return from_pandas(columns, tokens=tokens, queries=queries, keys=keys, metadata=metadata)


def from_networkx(
    graph: networkx.Graph,
    *,
    direction: str = "query_to_key",
    weight: str = "weight",
    metadata: Mapping[str, str] | None = None,
) -> Graph:
    """Make a graph out of a directed networkx graph, as `Graph.to_networkx` makes one.

    Parameters
    ----------
    graph : networkx.DiGraph or networkx.MultiDiGraph
        Nodes are positions, from 0 on; their attribute token is their label, where all of them have one. In a
        multigraph, edges whose key is a (batch, layer, head) belong to that slice; others to (0, 0, 0).
    direction : {"query_to_key", "key_to_query"}
        Which way edges point.
    weight : str
        The attribute that holds the weight; 1 where an edge has none.

    Examples
    --------
    >>> import attngraph as ag
    >>> g = ag.from_matrix([[1.0, 0.0], [0.25, 0.75]], threshold=0.2)
    >>> bool(ag.from_networkx(g.to_networkx()).diff(g))  # doctest: +NEEDS(networkx)
    False
    """
    if not graph.is_directed():
        raise ArgumentError("the graph is not directed; which end of an edge is the query is not known")
    if direction not in ("query_to_key", "key_to_query"):
        raise ArgumentError(f"direction is {direction!r}; it is 'query_to_key' or 'key_to_query'")
    nodes = sorted(graph.nodes)
    if nodes != list(range(len(nodes))):
        raise ArgumentError("nodes are positions, 0, 1, 2 and so on; networkx.convert_node_labels_to_integers makes them")
    tokens = [graph.nodes[node].get("token") for node in nodes]
    rows = []
    for edge in graph.edges(data=True, keys=True) if graph.is_multigraph() else graph.edges(data=True):
        label = edge[2] if graph.is_multigraph() and isinstance(edge[2], tuple) and len(edge[2]) == 3 else (0, 0, 0)
        ends = edge[:2] if direction == "query_to_key" else edge[1::-1]
        rows.append((*label, *ends, edge[-1].get(weight, 1.0)))
    names = ("batch", "layer", "head", "query", "key", "weight")
    columns = dict(zip(names, map(np.array, zip(*rows)))) if rows else {name: np.empty(0, int) for name in names}
    known = tokens if tokens and all(token is not None for token in tokens) else None
    return from_pandas(columns, tokens=known, queries=len(nodes), keys=len(nodes), metadata=metadata)


def _integers(values, name):
    values = np.asarray(values)
    if values.dtype.kind not in "iu" and values.size:
        raise DtypeError(f"column {name} is {values.dtype}; it holds integers")
    values = values.astype(np.int64)
    if values.size and values.min() < 0:
        raise ArgumentError(f"column {name} holds {values.min()}; numbers begin at 0")
    return values


def _count(given, usual, numbers, what):
    least = int(numbers.max()) + 1 if numbers.size else 0
    count = given if given is not None else max(usual or 0, least) if what == "queries" else usual or least
    if count < least:
        raise ArgumentError(f"the table has {what} up to {least - 1}, but there are {count} {what}")
    return count
