# SPDX-License-Identifier: Apache-2.0
"""Keys in shards, one in memory at a time: two passes, of which the second knows what the first has summed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from . import _values
from ._extract import extract
from ._inputs import is_array
from ._labels import Labels
from ._making import from_slices
from ._operations import parts
from .errors import ArgumentError, ShapeError, UnsupportedError
from .graph import Graph
from .records import Csr, Rows, Slice, together

_ROUNDING = 2.0**-23  # of a weight to float32, relative, with room
_TAKEN = (
    "scale", "causal", "query_offset", "mask", "key_lengths", "window", "softcap", "alibi", "sinks", "layer", "heads", "query_range",
    "layout", "device", "backend", "threads", "products", "nonfinite", "max_edges", "workspace_bytes", "tokens",
)  # fmt: skip


def extract_sharded(q: Any, shards: Sequence[Any], threshold: float = 0.05, **how: Any) -> Graph:
    """Make the graph of `extract` where K does not fit into memory, or lies on several machines.

    The first pass takes the logsumexp of every row over each shard; these are added up in double precision. The second
    finds the edges of each shard against the whole logsumexp. So each shard is read twice, and K is never whole.

    Parameters
    ----------
    q : array [B, Hq, Nq, D], [Hq, Nq, D] or [Nq, D]
        As in `extract`, of one layer.
    shards : sequence of arrays [B, Hkv, n, D], [Hkv, n, D] or [n, D]
        The keys, one piece after the other; ``np.load(path, mmap_mode="r")`` reads a piece when its turn comes.
    threshold : float
        Above 0.
    **how
        Of `extract`: scale, causal, query_offset, mask, key_lengths, window, softcap, alibi, sinks, layer, heads, query_range,
        layout, device, backend, threads, products, nonfinite, max_edges (of a shard), workspace_bytes, tokens.

    Returns
    -------
    Graph
        Equal to that of `extract` outside the band ``report.eps``, which is wider: the sum of those of both passes, and
        of the rounding of weights to float32, which are what is compared. ``report.borderline`` counts the pairs inside.

    Raises
    ------
    UnsupportedError
        For what needs all keys of a row at once: top_k, mass, statistics, decision="certified".

    Examples
    --------
    >>> import numpy as np, attngraph as ag
    >>> rng = np.random.default_rng(0)
    >>> q, k = rng.standard_normal((2, 4, 256, 64)).astype(np.float32)
    >>> g = ag.extract_sharded(q, [k[:, :100], k[:, 100:]], threshold=0.05)
    >>> bool(g.diff(ag.extract(q, k, threshold=0.05), band=g.report.eps))
    False
    """
    work = Sharded(q, shards, threshold, how)
    work.merge([sums_of(*work.first(n)) for n in range(len(work.begins))])
    return work.graph([edges_of(*work.second(n)) for n in range(len(work.begins))])


class Sharded:
    """The calls of both passes, for whoever makes them, and what becomes of their answers."""

    def __init__(self, q, shards, threshold, how):
        if is_array(shards) or not isinstance(shards, Sequence) or not shards or not all(map(is_array, shards)):
            raise ArgumentError("shards is a list of arrays: the keys, one piece after the other")
        for name in how:
            if name not in _TAKEN:
                raise UnsupportedError(f"{name} does not go with shards of keys; they take {', '.join(_TAKEN)}")
        if not is_array(q) or not 2 <= len(q.shape) <= 4:
            raise ShapeError("q is an array [B, Hq, Nq, D], [Hq, Nq, D] or [Nq, D]")
        if not _values.number(threshold, "threshold") > 0:
            raise ArgumentError(f"threshold is {threshold}; with shards of keys it is above 0")
        self._q, self._shards, self._threshold, self._how = q, shards, threshold, dict(how)
        self._tokens: Labels | None = self._how.pop("tokens", None)
        axis = -3 if how.get("layout", "bhsd") == "bshd" and len(q.shape) >= 3 else -2
        lengths = [shard.shape[axis] for shard in shards]
        self.begins = np.concatenate([[0], np.cumsum(lengths)]).tolist()[:-1]
        self.keys = sum(lengths)
        offset = self._how.pop("query_offset", None)
        self._offset = self.keys - q.shape[axis] if offset is None else _values.integer(offset, "query_offset")
        mask = self._how.get("mask")
        if mask is not None and mask.shape[-1] not in (1, self.keys):
            raise ShapeError(f"mask has {mask.shape[-1]} keys, and the shards together {self.keys}")
        key_lengths = self._how.get("key_lengths")
        self._how["key_lengths"] = None if key_lengths is None else _values.integers(key_lengths, "key_lengths")
        self._lse = None

    def _call(self, n, **more):
        """What extract takes for shard n: its keys stand where they stand in the whole."""
        how, begin, length = dict(self._how), self.begins[n], (*self.begins[1:], self.keys)[n] - self.begins[n]
        if how["key_lengths"] is not None:
            for count in how["key_lengths"]:
                if not 0 <= count <= self.keys:
                    raise ArgumentError(f"key_lengths holds {count}; there are {self.keys} keys")
            how["key_lengths"] = [min(max(count - begin, 0), length) for count in how["key_lengths"]]
        if how.get("mask") is not None and how["mask"].shape[-1] != 1:
            how["mask"] = how["mask"][..., begin : begin + length]
        how.update(query_offset=self._offset - begin, **more)
        return self._q, self._shards[n], how

    def first(self, n):
        q, k, how = self._call(n, threshold=1.0)
        how.pop("sinks", None)  # one for all shards: added in merge
        how.pop("max_edges", None)
        return q, k, how

    def merge(self, sums):
        """Put the logsumexps of all shards together."""
        self._sums = sums
        slices = sums[0][0]
        whole = np.full((len(slices), slices[0][4] if slices else 0), -np.inf)
        for _, rows, _ in sums:
            whole = np.logaddexp(whole, rows)
        sinks = self._how.pop("sinks", None)
        if sinks is not None:
            sinks = np.asarray(sinks, np.float64)
            at = [sinks[..., s[2]] if sinks.ndim == 1 else sinks[s[0], s[2]] for s in slices]
            whole = np.logaddexp(whole, np.array(at)[:, None])
        self._logsumexp = whole
        # As extract takes it: [B, Hq, Nq], whatever of it this call is about.
        shape = self._q.shape
        if self._how.get("layout", "bhsd") == "bshd" and len(shape) >= 3:
            shape = (*shape[:-3], shape[-2], shape[-3], shape[-1])
        batch, heads, queries = (1,) * (4 - len(shape)) + tuple(shape[:-1])
        self._lse = np.full((batch, heads, queries), -np.inf)
        for s, row in zip(slices, whole):
            self._lse[s[0], s[2], s[3] : s[3] + s[4]] = row

    def second(self, n):
        """Also pairs below the threshold that may be inside the band: they are counted."""
        return self._call(n, threshold=self._threshold * np.exp(-self._margin()), lse=self._lse)

    def _margin(self):
        return 8 * max(eps for _, _, eps in self._sums) + 1e-6

    def graph(self, found):
        """The edges of all shards as one graph."""
        eps = max(eps for _, _, eps in self._sums) + max(answer.report.eps for answer in found) + _ROUNDING
        slices, borderline = [], 0
        for logsumexp, *pieces in zip(self._logsumexp, *(answer.slices for answer in found)):
            csr, rows = _side_by_side([(csr, rows, begin) for (_, csr, rows), begin in zip(pieces, self.begins)])
            borderline += int((np.abs(np.log(csr.data.astype(np.float64) / self._threshold)) <= eps).sum())
            csr, kept_mass = _at_least(csr, self._threshold)
            rows = rows._replace(logsumexp=logsumexp, kept_mass=kept_mass)
            slices.append((Slice(*pieces[0][0][:5], self.keys, 0), csr, rows))
        known = eps <= self._margin()  # else there may be more of them than were looked at
        report = together(answer.report for answer in found)
        report = report._replace(eps=eps if known else None, borderline=borderline if known else None)
        facts = {name: value for name, value in found[0].facts.items() if name not in ("lse", "query_offset")}
        facts |= {"threshold": repr(float(self._threshold)), "query_offset": str(self._offset)}
        facts |= {"key_shards": str(len(self.begins))}
        return from_slices(slices, self._tokens, facts, report=report)


class Found:
    """What the second pass finds in one shard."""

    def __init__(self, graph):
        self.slices = [(s, Csr(*map(np.array, csr)), Rows(*map(np.array, rows))) for s, csr, rows in parts(graph)]
        self.report, self.facts = graph.report, graph.metadata


def sums_of(q, k, how):
    """The first pass over a shard: slices, the logsumexp of their rows, eps."""
    graph = extract(q, k, **how)
    rows = np.array([rows.logsumexp for _, _, rows in parts(graph)])
    return [tuple(s) for s in graph.slices], rows, graph.report.eps


def edges_of(q, k, how):
    """The second pass over a shard."""
    return Found(extract(q, k, **how))


def _at_least(csr, threshold):
    """The edges that weigh so much, and the mass that they hold in each row."""
    kept = csr.data >= threshold
    indptr = np.concatenate([[0], np.cumsum(kept)])[csr.indptr]
    mass = np.concatenate([[0.0], np.cumsum(csr.data[kept], dtype=np.float64)])
    return Csr(indptr, csr.indices[kept], csr.data[kept]), np.diff(mass[indptr])


def _side_by_side(shards):
    """Rows whose edges come from several shards: (csr, rows, first key) each, in order of the keys."""
    counts = [np.diff(csr.indptr) for csr, _, _ in shards]
    indptr = np.concatenate([[0], np.cumsum(sum(counts))])
    keys = np.empty(indptr[-1], np.int32)
    weights = np.empty(indptr[-1], shards[0][0].data.dtype)
    begins = indptr[:-1].copy()
    for (csr, _, begin), count in zip(shards, counts):
        to = np.arange(len(csr.indices)) + np.repeat(begins - csr.indptr[:-1], count)
        keys[to], weights[to] = csr.indices + begin, csr.data
        begins += count
    every = [rows for _, rows, _ in shards]
    maximum = np.max([rows.maximum for rows in every], axis=0)
    max_key = np.full(len(maximum), -1, np.int32)
    for _, rows, begin in reversed(shards):
        is_it = (rows.max_key >= 0) & (rows.maximum == maximum)
        max_key[is_it] = rows.max_key[is_it] + begin
    return Csr(indptr, keys, weights), Rows(
        every[0].logsumexp, maximum, max_key, every[0].kept_mass, every[0].entropy
    )
