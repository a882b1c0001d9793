# SPDX-License-Identifier: Apache-2.0
"""Graphs out of the tables and graphs of other programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import _values
from ._labels import is_many, listed
from ._making import facts_of, from_slices, with_words
from ._optional import optional
from .errors import ArgumentError, DtypeError, LimitError, NonfiniteError, ShapeError
from .graph import Graph
from .records import Csr, Slice

if TYPE_CHECKING:
    import networkx
    import pandas

_MOST_QUERIES = 1 << 28  # each takes room, with edges or without


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
    frame = _with_columns(frame)
    try:
        missing = [name for name in ("query", "key", "weight") if name not in frame or frame[name] is None]
    except (TypeError, IndexError, RuntimeError):
        raise ArgumentError(f"frame is {type(frame).__name__}; it is a DataFrame, or a dict of columns") from None
    if missing:
        raise ArgumentError(f"the table has no column {', '.join(missing)}; it needs query, key and weight")
    columns = {name: _integers(frame[name], name) for name in ("query", "key")}
    weight = _weights(frame["weight"])
    if tokens is not None:
        tokens = listed(tokens)
    wrong = np.flatnonzero(~np.isfinite(weight))
    if wrong.size:
        raise NonfiniteError(f"row {wrong[0]} has the weight {weight[wrong[0]]}; weights are finite")
    for name in ("batch", "layer", "head"):
        columns[name] = _integers(frame[name], name) if name in frame else np.zeros(len(weight), np.int64)
    for name, values in columns.items():
        if len(values) != len(weight):
            raise ShapeError(f"column {name} has {len(values)} rows, and weight {len(weight)}")
    order = np.lexsort([columns[name] for name in ("key", "query", "head", "layer", "batch")])
    columns = {name: values[order] for name, values in columns.items()}
    weight = weight[order]
    same = np.ones(max(len(weight) - 1, 0), bool)
    for values in columns.values():
        same &= values[1:] == values[:-1]
    if same.any():
        at = int(order[np.flatnonzero(same)[0] + 1])
        raise ArgumentError(f"row {at} is a second edge of the same batch, layer, head, query and key")
    words = None if tokens is None else max(map(len, tokens), default=0) if is_many(tokens) else len(tokens)
    keys = _count(keys, words, columns["key"], "keys")
    queries = _count(queries, keys, columns["query"], "queries")
    labels = np.stack([columns[name] for name in ("batch", "layer", "head")], axis=1)
    starts = np.flatnonzero(np.r_[True, (labels[1:] != labels[:-1]).any(1)]) if len(labels) else np.empty(0, int)
    slices = []
    for begin, end in zip(starts, np.r_[starts[1:], len(labels)]):
        counts = np.bincount(columns["query"][begin:end], minlength=queries)
        csr = Csr(np.r_[0, np.cumsum(counts)], columns["key"][begin:end], weight[begin:end])
        slices.append((Slice(*labels[begin].tolist(), 0, queries, keys, int(end - begin)), csr))
    return from_slices(slices, tokens, metadata)


def _with_columns(frame):
    """Where pandas has columns of ours as (levels of) the index, as after groupby, the frame with them as columns."""
    levels = getattr(getattr(frame, "index", None), "names", None) or ()
    taken = getattr(frame, "columns", ())
    named = [name for name in ("batch", "layer", "head", "query", "key") if name in levels and name not in taken]
    return frame.reset_index(level=named) if named else frame


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
    try:
        table = arrow.table(table)
    except (TypeError, ValueError, KeyError) as error:  # pyarrow's own are among them
        raise ArgumentError(f"table is {type(table).__name__}, which pyarrow takes for no table: {error}") from None
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
        Nodes are positions, from 0 on; their attribute token is their label, where all of them have one. Nodes of any
        other name say where they stand by the attribute position, and whether they are a query or a key of different
        sequences by side, as `Graph.to_networkx` and GraphML have them. Edges belong to the slice that their attributes
        batch, layer and head say, or, in a multigraph, their key (batch, layer, head); others to (0, 0, 0).
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
    if not hasattr(graph, "is_directed") or not hasattr(graph, "nodes"):
        raise ArgumentError(f"graph is {type(graph).__name__}; it is a networkx.DiGraph or MultiDiGraph")
    if not graph.is_directed():
        raise ArgumentError("the graph is not directed; which end of an edge is the query is not known")
    _values.one_of(direction, "direction", "query_to_key", "key_to_query")
    weight = _values.text(weight, "weight")
    places, two_sided = _node_places(graph)
    rows = []
    for edge in graph.edges(data=True, keys=True) if graph.is_multigraph() else graph.edges(data=True):
        facts = edge[-1]
        label = edge[2] if graph.is_multigraph() and isinstance(edge[2], tuple) and len(edge[2]) == 3 else (0, 0, 0)
        label = [facts.get(name, usual) for name, usual in zip(("batch", "layer", "head"), label)]
        ends = edge[:2] if direction == "query_to_key" else edge[1::-1]
        rows.append((*label, *(places[end].position for end in ends), facts.get(weight, 1.0)))
    names = ("batch", "layer", "head", "query", "key", "weight")
    columns = {name: list(column) for name, column in zip(names, zip(*rows))} if rows else {name: [] for name in names}
    words, counts = {}, {}
    for side in ("key", "query") if two_sided else ("",):
        words[side], counts[side] = _words_of([place for place in places.values() if place.side == side])
    keys, queries = ("key", "query") if two_sided else ("", "")
    facts = {**({"attention": "cross"} if two_sided else {}), **facts_of(metadata)}
    made = from_pandas(columns, tokens=words[keys], queries=counts[queries], keys=counts[keys], metadata=facts)
    return with_words(made, query_tokens=words["query"]) if two_sided else made


class _Node(NamedTuple):
    batch: int
    side: str  # "query", "key"; "": both
    position: int
    token: str | None


def _node_places(graph):
    """{node: _Node}, and whether queries and keys are different nodes."""
    places = {}
    for name, facts in graph.nodes(data=True):
        position = facts.get("position", name)
        if isinstance(position, bool) or not isinstance(position, (int, np.integer)) or position < 0:
            raise ArgumentError(
                f"node {name!r} stands nowhere: nodes are positions, 0, 1, 2 and so on, or have the attribute position"
            )
        batch = _values.integer(facts.get("batch", 0), "batch", least=0)
        side = _values.one_of(facts.get("side", ""), "side", "", "query", "key")
        places[name] = _Node(batch, side, int(position), facts.get("token"))
    sides = {place.side for place in places.values()}
    if "" in sides and len(sides) > 1:
        raise ArgumentError("some nodes have the attribute side, query or key, and some have none; give it to all")
    if len({place[:3] for place in places.values()}) < len(places):
        raise ArgumentError("two nodes stand at one position; say whose they are by the attributes batch and side")
    return places, "query" in sides or "key" in sides


def _words_of(places):
    """Words of one side, and how many positions it has: one list, or, where sequences have nodes of their own, one each."""
    count = max((place.position for place in places), default=-1) + 1
    found = {}
    for place in places:
        found.setdefault(place.batch, {})[place.position] = place.token
    if not found or any(token is None for own in found.values() for token in own.values()):
        return None, count
    lists = [[found.get(batch, {}).get(position, "") for position in range(count)] for batch in range(max(found) + 1)]
    return lists if len(lists) > 1 else lists[0], count


def _weights(values):
    try:
        if hasattr(values, "isna"):  # pandas, whose NA is no number to NumPy
            values = values.to_numpy(np.float32 if values.dtype in ("float32", "Float32") else np.float64, na_value=np.nan)
        values = np.asarray(values)
        return values if values.dtype == np.float32 else values.astype(np.float64)
    except (TypeError, ValueError):
        raise DtypeError("column weight holds what is no number") from None


def _integers(values, name):
    if str(getattr(values, "dtype", "")).startswith(("Int", "UInt", "int64[", "int32[", "category")):
        values = np.array(_values.integers(values, f"column {name}"), np.int64)
    values = np.asarray(values)
    if values.dtype.kind not in "iu" and values.size:
        raise DtypeError(f"column {name} is {values.dtype}; it holds integers")
    values = values.astype(np.int64)
    if values.size and values.min() < 0:
        raise ArgumentError(f"column {name} holds {values.min()}; numbers begin at 0")
    return values


def _count(given, usual, numbers, what):
    given = None if given is None else _values.integer(given, what, least=0)
    least = int(numbers.max()) + 1 if numbers.size else 0
    count = given if given is not None else max(usual or 0, least) if what == "queries" else usual or least
    if count < least:
        raise ArgumentError(f"the table has {what} up to {least - 1}, but there are {count} {what}")
    if what == "queries" and count > _MOST_QUERIES:
        raise LimitError(f"there are {count} queries; the limit of a table is {_MOST_QUERIES}")
    return count
