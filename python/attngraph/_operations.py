# SPDX-License-Identifier: Apache-2.0
"""Graphs out of graphs, in NumPy: sums over heads and layers, joined query ranges."""

import numpy as np

from . import _values
from .errors import ArgumentError, DtypeError, ShapeError
from .records import Csr, Rows, Slice


def slice_parts(given):
    """A slice that somebody made: (Slice, Csr) or (Slice, Csr, Rows), as plain tuples."""
    parts = given if isinstance(given, (tuple, list)) else ()
    if len(parts) not in (2, 3) or any(not _values.is_collection(part) or isinstance(part, str) for part in parts):
        raise ArgumentError(f"a slice is {type(given).__name__}; it is (Slice, Csr) or (Slice, Csr, Rows)")
    parts = [part if hasattr(part, "__len__") else list(part) for part in parts]
    for part, least, name in zip(parts, (6, 3, 5), ("Slice", "Csr", "Rows")):
        if len(part) < least or (name != "Slice" and len(part) != least):
            raise ArgumentError(f"a {name} has {least} fields; one that was given has {len(part)}")
    head = list(parts[0])[:6]
    return (head if all(type(n) is int for n in head) else _values.integers(head, "slice"), *parts[1:])


def plain_csr(csr):
    """Arrays of the types that the library keeps."""
    try:
        return _plain_csr(*csr)
    except (TypeError, ValueError) as error:
        raise DtypeError(f"indptr, indices and data are arrays of numbers: {error}") from None


def _plain_csr(indptr, indices, data):
    data = np.asarray(data)
    if data.dtype not in (np.float32, np.float64):
        data = data.astype(np.float64)
    return (
        np.ascontiguousarray(indptr, dtype=np.int64),
        np.ascontiguousarray(indices, dtype=np.int32),
        np.ascontiguousarray(data),
    )


def plain_rows(rows):
    types = (np.float64, np.float64, np.int32, np.float64, np.float64)
    try:
        return tuple(np.ascontiguousarray(column, dtype=dtype) for column, dtype in zip(rows, types))
    except (TypeError, ValueError) as error:
        raise DtypeError(f"statistics of rows are arrays of numbers: {error}") from None


def parts(graph):
    """Every slice with its arrays, whether or not its (batch, layer, head) is unique."""
    for place, s in enumerate(graph._slices):
        yield s, Csr(*graph._result.csr(place)), Rows(*graph._result.rows(place))


def row_numbers(indptr):
    """The row of every edge."""
    return np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))


def coverage(graph):
    for s, _, rows in parts(graph):
        has_keys = np.isnan(rows.maximum) | (rows.max_key >= 0)
        mass = rows.kept_mass[has_keys]
        if not mass.size:
            yield (*s[:3], 0, 0.0, 0.0, 0.0, -1)
            continue
        lowest = int(mass.argmin())
        query = s.query_begin + int(np.flatnonzero(has_keys)[lowest])
        yield (*s[:3], mass.size, float(mass.mean()), float(np.median(mass)), float(mass[lowest]), query)


def joined(slices):
    """Slices of the same (batch, layer, head), with their arrays, one after the other."""
    groups = {}
    for s, csr, rows in slices:
        groups.setdefault(s[:3], []).append((s, csr, rows))
    for label in sorted(groups):
        yield _joined(sorted(groups[label], key=lambda part: (part[0].query_begin, part[0].query_count)))


def _joined(group):
    first = group[0][0]
    end = first.query_begin
    for s, _, _ in group:
        if s.query_begin != end:
            what = "overlap" if s.query_begin < end else "leave a gap"
            raise ShapeError(
                f"(batch, layer, head) = {tuple(s[:3])}: query ranges {what} at query {min(s.query_begin, end)}"
            )
        end += s.query_count
    counts = np.concatenate([np.diff(csr.indptr) for _, csr, _ in group])
    csr = Csr(
        np.concatenate([[0], np.cumsum(counts)]),
        np.concatenate([csr.indices for _, csr, _ in group]),
        np.concatenate([csr.data for _, csr, _ in group]),
    )
    rows = Rows(*(np.concatenate(columns) for columns in zip(*(rows for _, _, rows in group))))
    keys = max(s.key_count for s, _, _ in group)
    return Slice(*first[:4], end - first.query_begin, keys, len(csr.indices)), csr, rows


def aggregate(graph, how, over):
    _values.one_of(how, "how", "mean", "max", "sum")
    _values.one_of(over, "over", "head", "layer")
    groups = {}
    for s, csr, _ in parts(graph):
        label = (s.batch, s.layer, 0) if over == "head" else (s.batch, 0, s.head)
        groups.setdefault(label, []).append((s, csr))
    facts = {name: value for name, value in graph.metadata.items() if name not in ("threshold", "weights")}
    facts["weights"] = f"{how} over {over}s"
    from ._making import from_slices

    joined = (_merged(label, groups[label], how, over) for label in sorted(groups))
    return from_slices(joined, graph.labels("keys"), facts, query_tokens=graph.labels("queries"), report=graph.report)


def _merged(label, group, how, over):
    begin = min(s.query_begin for s, _ in group)
    count = max(s.query_begin + s.query_count for s, _ in group) - begin
    keys = max(s.key_count for s, _ in group)
    places = np.concatenate(
        [(row_numbers(csr.indptr) + (s.query_begin - begin)) * keys + csr.indices for s, csr in group]
    )
    weights = np.concatenate([csr.data for _, csr in group]).astype(np.float64)
    order = np.argsort(places, kind="stable")
    places, weights = places[order], weights[order]
    first = np.flatnonzero(np.diff(places, prepend=-1))
    if first.size:
        weights = (np.maximum if how == "max" else np.add).reduceat(weights, first)
    if how == "mean":
        weights /= len({s.head if over == "head" else s.layer for s, _ in group})
    rows, columns = np.divmod(places[first], max(keys, 1))
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=count))])
    return Slice(*label, begin, count, keys, len(columns)), Csr(indptr, columns, weights)
