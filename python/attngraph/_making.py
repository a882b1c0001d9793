# SPDX-License-Identifier: Apache-2.0
"""Graphs out of files, arrays and other graphs."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping

from . import _native, _operations, _values
from ._labels import Labels, is_many, listed, require_one_each, set_labels, token_bytes
from .errors import ArgumentError
from .graph import Graph
from .records import Csr, Report, Rows, Slice


def from_bytes(data):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "graph.safetensors")
        with open(path, "wb") as file:
            file.write(data)
        return load(path)


def load(path: str | os.PathLike[str]) -> Graph:
    """Read a graph that attngraph wrote: npz, safetensors, csv or jsonl. Every byte is checked.

    Examples
    --------
    >>> import attngraph as ag, os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "graph.npz")
    >>> ag.from_matrix([[1.0]]).save(path)
    >>> len(ag.load(path))
    1
    """
    return Graph(_native.Result.load(_values.path(path)))


def from_slices(
    slices: Iterable[tuple[Slice, Csr] | tuple[Slice, Csr, Rows]],
    tokens: Labels | None = None,
    metadata: Mapping[str, str] | None = None,
    *,
    query_tokens: Labels | None = None,
    report: Report | None = None,
) -> Graph:
    """Make a graph out of CSR arrays made elsewhere.

    Parameters
    ----------
    slices : iterable of (Slice, Csr) or (Slice, Csr, Rows)
        Labels, size and arrays of each slice; edge_count is not read. Without `Rows` the logsumexp, maximum and
        entropy of the rows are unknown (NaN) and kept mass is the sum of a row's weights.
    tokens : sequence of str or bytes, or one sequence for each element of the batch, optional
        Labels of the positions, one per key.
    query_tokens : as tokens, optional
        Labels of the queries where they are another sequence than the keys, one per query.
    metadata : dict of str to str, optional
        Facts that travel with the graph. A fact "threshold" says that all pairs at or above it are here.
    report : Report, optional
        How the edges were found, where another graph's report says it: eps, borderline pairs, backends. Unless given,
        eps and borderline of the answer are None: not known.

    Examples
    --------
    >>> import numpy as np, attngraph as ag
    >>> csr = ag.Csr(np.array([0, 1]), np.array([0], np.int32), np.array([0.5], np.float32))
    >>> len(ag.from_slices([(ag.Slice(0, 0, 0, 0, 1, 1, 1), csr)]))
    1
    """
    sink = _native.Sink.collect()
    set_labels(sink, tokens, query_tokens)
    for name, value in facts_of(metadata).items():
        sink.set_metadata(str(name), str(value))
    if report is not None and not isinstance(report, Report):
        raise ArgumentError(f"report is {type(report).__name__}; it is a Report, as another graph's .report is")
    if not _values.is_collection(slices):
        raise ArgumentError(f"slices is {type(slices).__name__}; it is a list of (Slice, Csr) or (Slice, Csr, Rows)")
    for s, csr, *rows in map(_operations.slice_parts, slices):
        sink.add_slice(list(s[:6]), *_operations.plain_csr(csr), _operations.plain_rows(rows[0]) if rows else None)
    if report is not None:
        sink.set_report(*report[:2], *report[3:5], *report[6:11])
    return Graph(sink.take_result())


def facts_of(metadata):
    """What a caller gave as facts, as a dict."""
    if metadata is not None and not isinstance(metadata, Mapping):
        raise ArgumentError(f"metadata is {type(metadata).__name__}; it is a dict of texts")
    return dict(metadata or {})


def with_words(graph, tokens=None, query_tokens=None, facts=None):
    """The same graph, with its report, and other words or more facts."""
    if tokens is None and query_tokens is None and not facts:
        return graph
    sink = _native.Sink.collect()
    counts = set_labels(sink, tokens, query_tokens)
    for name, value in (facts or {}).items():
        sink.set_metadata(name, value)
    graph._result.write(sink)
    return require_one_each(counts, Graph(sink.take_result()))


def concat(
    graphs: Iterable[Graph], tokens: Labels | None = None, *, query_tokens: Labels | None = None
) -> Graph:
    """Join graphs: slices of the same (batch, layer, head) become one, their query ranges one after the other.

    This is how a prefill and the decoding steps after it, or the query ranges of several workers, become one graph.
    Reports add up, and so do sums over queries where all parts have them.
    Rows go where their queries stand, ``query + query_offset`` of their graph: a step made of one query and n keys is
    row n - 1. A slice has as many keys as the longest of its parts. Words are those of the last graph that has any, facts
    those of the first.

    Examples
    --------
    >>> import attngraph as ag
    >>> whole = [[1.0, 0.0], [0.25, 0.75]]
    >>> parts = [ag.from_matrix(whole, query_range=r) for r in [(1, 2), (0, 1)]]
    >>> bool(ag.concat(parts).diff(ag.from_matrix(whole)))
    False
    >>> steps = [ag.from_matrix([[1.0]]), ag.from_matrix([[0.25, 0.75]])]
    >>> bool(ag.concat(steps).diff(ag.from_matrix(whole)))
    False
    """
    graphs = list(graphs) if _values.is_collection(graphs) else [graphs]
    for graph in graphs:
        if not isinstance(graph, Graph):
            raise ArgumentError(f"concat joins graphs; {type(graph).__name__} is none")
    if tokens is not None:
        tokens = listed(tokens)
    else:
        tokens = next((g.labels("keys") for g in reversed(graphs) if g.labels("keys") is not None), None)
    if query_tokens is None:
        query_tokens = next((g.labels("queries") for g in reversed(graphs) if g.labels("queries") is not None), None)
    facts = graphs[0].metadata if graphs else {}
    base = min((g._query_offset for g in graphs), default=0)
    many = tokens is not None and is_many(tokens)
    whole = _native.Result.join(
        [g._result for g in graphs],
        [g._query_offset - base for g in graphs],
        [],
        token_bytes(tokens) if tokens is not None and not many else None,
        {} if "query_offset" not in facts else {"query_offset": str(base)},
    )
    return with_words(Graph(whole), tokens if many else None, query_tokens)
