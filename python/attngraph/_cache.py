# SPDX-License-Identifier: Apache-2.0
"""What a smaller key-value cache would lose: the attention that queries give to keys that it drops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from . import _values
from ._extract import extract, has_one_per_layer, layer_pairs
from ._inputs import of_layer
from .errors import ArgumentError, NotFoundError, ShapeError
from .tables import Table


class Cache(NamedTuple):
    """Which keys stay, as a query at a position sees it: the union of what is given."""

    window: int  # nearer than this; 0: none
    first: int  # the first keys (sinks)
    keys: np.ndarray  # these keys
    heavy: int  # the keys of each head that receive most


class CacheLoss(NamedTuple):
    """What a cache would lose: by head, and by query."""

    heads: Table  # batch, layer, head, queries, lost (mean), worst_query, worst
    queries: dict  # {(batch, layer, head): array [Nq], or a pair of them, least and most}; NaN: a query without keys


def cache_of(window, first, keys, heavy):
    cache = Cache(
        _count(window, "window"), _count(first, "first"),
        np.unique(np.array([] if keys is None else _values.integers(keys, "keys"), np.int64)),
        _count(heavy, "heavy"),
    )  # fmt: skip
    if not (cache.window or cache.first or cache.heavy or cache.keys.size):
        raise ArgumentError("the cache keeps nothing; give window, first, keys or heavy")
    if cache.keys.size and cache.keys[0] < 0:
        raise ArgumentError(f"keys holds {cache.keys[0]}; keys are numbered from 0")
    return cache


def _count(value, name):
    return 0 if value is None else _values.integer(value, name, least=0)


def kept_keys(cache, received, key_count):
    """The listed keys of one slice, ascending: the first, those named, the heavy ones."""
    if cache.keys.size and cache.keys[-1] >= key_count:
        raise ArgumentError(f"keys holds {cache.keys[-1]}; there are {key_count} keys")
    listed = np.union1d(np.arange(min(cache.first, key_count)), cache.keys)
    if cache.heavy:
        if received is None or not received.size:
            raise NotFoundError(
                'which keys are heavy is not known; make the graph with stats="heads" (or "columns"), which sums the '
                "attention that every key receives"
            )
        listed = np.union1d(listed, np.argsort(-received, kind="stable")[: cache.heavy])
    return listed.astype(np.int64)


# ----------------------------------------------------------------------------------------------------------------------
# of a graph: between two bounds


def loss_of_graph(graph, cache):
    """Table of heads with the least and the most that is lost, and the same for every query."""
    from ._operations import parts, row_numbers

    columns = {name: [] for name in ("batch", "layer", "head", "queries", "lost_min", "lost_max", "worst_query", "worst_min")}
    queries = {}
    for place, (s, csr, rows) in enumerate(parts(graph)):
        received = np.asarray(graph._result.columns(place)[0])
        keeps = np.zeros(s.key_count, bool)
        keeps[kept_keys(cache, received, s.key_count)] = True
        row = row_numbers(csr.indptr)
        position = row + s.query_begin + graph._query_offset
        dropped = ~keeps[csr.indices] & ~(np.abs(position - csr.indices) < cache.window)
        least = np.bincount(row[dropped], weights=csr.data[dropped], minlength=s.query_count)[: s.query_count]
        has_keys = np.isnan(rows.maximum) | (rows.max_key >= 0)
        most = np.minimum(1.0, least + np.maximum(0.0, 1 - rows.kept_mass))
        if graph.metadata.get("causal") == "true":  # the earliest queries see no key beyond the window
            inside = np.arange(s.query_count) + s.query_begin + graph._query_offset < cache.window
            most = np.where(inside, least, most)
        least, most = (np.where(has_keys, values, np.nan) for values in (least, most))
        queries[s.batch, s.layer, s.head] = least, most
        count = int(has_keys.sum())
        worst = int(np.nanargmax(least)) if count else -1
        for name, value in zip(columns, (
            *s[:3], count, np.nanmean(least) if count else np.nan, np.nanmean(most) if count else np.nan,
            worst + s.query_begin if count else -1, least[worst] if count else np.nan,
        )):  # fmt: skip
            columns[name].append(value)
    return CacheLoss(Table({name: np.array(values) for name, values in columns.items()}), queries)


# ----------------------------------------------------------------------------------------------------------------------
# of queries and keys: exactly


def cache_loss(
    q: Any,
    k: Any = None,
    *,
    window: int | None = None,
    first: int | None = None,
    keys: Sequence[int] | None = None,
    heavy: int | None = None,
    **how: Any,
) -> CacheLoss:
    """How much attention a cache that keeps some keys only would lose: by head and by query, exactly.

    The cache keeps the union of what is given; queries stay as they are, so this is the error of dropping keys once,
    before what it changes in later layers.

    Parameters
    ----------
    q, k : array
        As in `extract`: [B, Hq, Nq, D] and [B, Hkv, Nk, D], or fewer dimensions, or many layers: a list of arrays,
        ``{layer: array}``, ``{layer: (q, k)}`` without k, or [L, B, H, N, D].
    window : int, optional
        Keys nearer than this stay: a sliding window.
    first : int, optional
        So many first keys stay (attention sinks, StreamingLLM).
    keys : sequence of int, optional
        These keys stay.
    heavy : int, optional
        So many keys of every head stay, those that receive most attention (heavy hitters, H2O, chosen with all
        queries known).
    **how
        What else `extract` takes and the scores depend on: scale, causal, query_offset, softcap, sinks, layer, layers,
        layout, threads, ...; scale, softcap, sinks and heads also one per layer. Of sinks of the model (a logit in the
        denominator) nothing is ever lost.

    Returns
    -------
    CacheLoss
        `heads`, a Table with the mean loss of every head and its worst query, and `queries`, arrays by (batch, layer,
        head). A loss is ``1 - exp(logsumexp of kept keys - logsumexp of all)``; where the model has sinks, of what the
        keys receive.

    Examples
    --------
    >>> import numpy as np, attngraph as ag
    >>> q, k = np.random.default_rng(0).standard_normal((2, 4, 64, 16)).astype(np.float32)
    >>> loss = ag.cache_loss(q, k, window=16, first=4)
    >>> loss.heads["lost"].shape, bool(loss.queries[0, 0, 0][:16].max() == 0)
    ((4,), True)
    """
    cache = cache_of(window, first, keys, heavy)
    refused = {"threshold", "top_k", "mass", "allow_dense", "stats", "window", "mask", "key_lengths",
               "query_range", "lse", "lse_base", "tokens", "alibi"} & set(how)
    if refused:
        raise ArgumentError(f"cache_loss does not take {', '.join(sorted(refused))}")
    q, k = (dict(enumerate(a)) if getattr(a, "ndim", 0) == 5 else a for a in (q, k))
    pairs, many = layer_pairs(q, k, how.pop("layers", None), how.pop("layer", 0))
    columns = {name: [] for name in ("batch", "layer", "head", "queries", "lost", "worst_query", "worst")}
    queries = {}
    for layer, pair in pairs.items():
        here = {
            name: of_layer(value, layer, many and has_one_per_layer(name, value)) if name in _BY_LAYER else value
            for name, value in how.items()
        }
        _add_layer(*pair, cache, columns, queries, layer=layer, **here)
    return CacheLoss(Table({name: np.array(values) for name, values in columns.items()}), queries)


_BY_LAYER = ("scale", "softcap", "sinks", "heads")


def _add_layer(q, k, cache, columns, queries, *, layout="bhsd", causal=True, query_offset=None, sinks=None, heads=None, **how):
    """The rows of one layer's heads."""
    _values.one_of(layout, "layout", "bhsd", "bshd")
    q, k = _of_four(q, layout), _of_four(k, layout)
    offset = k.shape[2] - q.shape[2] if query_offset is None else _values.integer(query_offset, "query_offset")
    causal = _values.flag(causal, "causal")
    of_all = {"threshold": 1.0, "causal": causal, "query_offset": offset, "sinks": sinks, "heads": heads, **how}
    graph = extract(q, k, stats="columns" if cache.heavy else (), **of_all)
    near = extract(q, k, window=cache.window, **of_all) if cache.window else None
    if sinks is not None:  # which extract could read
        sinks = np.broadcast_to(np.asarray(_on_host(sinks), np.float64), q.shape[:2])
    group = q.shape[1] // k.shape[1]
    for s in graph.slices:
        at = (s.layer, s.head, s.batch)
        listed = kept_keys(cache, graph.columns(*at).received if cache.heavy else None, s.key_count)
        whole, known = graph.rows(*at).logsumexp, graph.rows(*at).max_key >= 0
        if near is not None:
            kept = near.rows(*at).logsumexp
        else:  # what a sink takes is never lost
            kept = np.full(s.query_count, -np.inf if sinks is None else sinks[s.batch, s.head])
        if listed.size:
            far = _outside(s.query_count, offset, listed, cache.window, causal)
            keys = np.ascontiguousarray(k[s.batch, s.head // group][listed])
            one = extract(q[s.batch, s.head], keys, threshold=1.0, causal=False, mask=far, **how)
            kept = np.logaddexp(kept, one.rows(s.layer, 0, 0).logsumexp)
        with np.errstate(invalid="ignore"):
            lost = np.where(known, np.clip(-np.expm1(np.minimum(kept - whole, 0)), 0, 1), np.nan)
        queries[s.batch, s.layer, s.head] = lost
        count = int(known.sum())
        worst = int(np.nanargmax(lost)) if count else -1
        for name, value in zip(columns, (*s[:3], count, np.nanmean(lost) if count else np.nan, worst, lost[worst])):
            columns[name].append(value)


def _on_host(array):
    """A tensor of torch where NumPy reads it; bfloat16, which NumPy has not, as float32."""
    if not hasattr(array, "detach"):
        return array
    array = array.detach().cpu()
    return array.float() if str(array.dtype) == "torch.bfloat16" else array


def _of_four(array, layout):
    """[B, H, N, D] in NumPy."""
    array = np.asarray(_on_host(array))
    if not 2 <= array.ndim <= 4:
        raise ShapeError(f"queries and keys are [B, H, N, D], [H, N, D] or [N, D]; here is {list(array.shape)}")
    array = array.reshape((1,) * (4 - array.ndim) + array.shape)
    return array.swapaxes(1, 2) if layout == "bshd" else array


def _outside(queries, offset, keys, window, causal):
    """Which of the listed keys a query sees, but not through the window: [queries, keys]."""
    distance = np.arange(offset, offset + queries)[:, None] - keys
    seen = distance >= 0 if causal else np.ones_like(distance, bool)
    return seen & ~(np.abs(distance) < window)
