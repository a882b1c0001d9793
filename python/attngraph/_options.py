# SPDX-License-Identifier: Apache-2.0
"""What a call asks for, as the library reads it: the same words in every function that makes a graph."""

import numpy as np

from . import _native, _values
from ._inputs import tensor
from .errors import ArgumentError, DtypeError, ShapeError

_STATS = {
    "entropy": _native.STATS_ENTROPY,
    "columns": _native.STATS_COLUMNS,
    "distances": _native.STATS_DISTANCES,
    "tokens": _native.STATS_TOKENS,
    "heads": _native.STATS_HEADS,
}


def call_options(
    *,
    threshold,
    causal,
    query_offset,
    key_lengths,
    top_k,
    mass,
    query_range,
    backend,
    threads,
    stats,
    nonfinite,
    max_edges,
    layer,
    window,
    heads,
    among=None,
    token_ids=None,
    word_ids=None,
    has_tokens=False,
):
    options = _native.Options()
    options.threshold(_values.number(threshold, "threshold"))
    options.causal(bool(causal))
    options.layer(layer)
    if query_offset is not None:
        options.query_offset(_values.integer(query_offset, "query_offset"))
    if key_lengths is not None:
        options.key_lengths(_values.integers(key_lengths, "key_lengths"))
    if window is not None:
        options.window(_values.positive(window, "window"))
    if top_k is not None:
        options.top_k(_values.positive(top_k, "top_k"))
    if mass is not None:
        options.mass(_values.number(mass, "mass"))
    if heads is not None:
        options.heads(_values.chosen(heads, "heads", among))
    if query_range is not None:
        ends = _values.integers(query_range, "query_range")
        if len(ends) != 2 or ends[0] >= ends[1]:
            raise ArgumentError(f"query_range is {tuple(ends)}; it is (begin, end) and holds at least one query")
        options.query_range(*ends)
    if backend is not None:
        options.backend(_values.text(backend, "backend"))
    if threads is not None:
        options.threads(min(_values.positive(threads, "threads"), 2**31 - 1))
    if max_edges is not None:
        options.max_edges(_values.positive(max_edges, "max_edges"))
    options.nonfinite_skip(_values.one_of(nonfinite, "nonfinite", "error", "skip") == "skip")
    options.stats(_stats_bits(stats, has_tokens or token_ids is not None))
    if token_ids is not None:
        options.token_ids(_ids(token_ids, "token_ids"))
    if word_ids is not None:
        options.word_ids(_ids(word_ids, "word_ids"))
    return options


def score_options(
    options, *, scale, softcap, mask, sinks, lse, lse_base, allow_dense, decision, products="auto", alibi=None, heads=None
):
    options.certified(_values.one_of(decision, "decision", "fast", "certified") == "certified")
    _values.one_of(lse_base, "lse_base", "e", "2", 2)
    options.products_in_float(_values.one_of(products, "products", "auto", "float") == "float")
    options.allow_dense(bool(allow_dense))
    if scale is not None:
        options.scale(_values.number(scale, "scale"))
    if softcap is not None:
        options.softcap(_values.number(softcap, "softcap"))
    if alibi is not None:
        options.alibi(_slopes(alibi, heads))
    if mask is not None:
        options.mask(tensor(mask, "mask"))
    if sinks is not None:
        options.sinks(tensor(sinks, "sinks"))
    if lse is not None:
        options.lse(tensor(lse, "lse"), lse_base != "e")


def alibi_slopes(heads: int, max_bias: float = 8.0) -> np.ndarray:
    """The slopes that models with ALiBi (attention with linear biases) use, for ``extract(..., alibi=...)``.

    Parameters
    ----------
    heads : int
        Query heads H of a layer. Of a power of two, ``2 ** (-max_bias * h / H)`` for h = 1 to H; otherwise those of the
        largest power of two below H, then every other one of twice as many, as BLOOM, MPT and llama.cpp have them.
    max_bias : float
        8 unless the model says otherwise (GGUF: ``attention.max_alibi_bias``, MPT: ``alibi_bias_max``).

    Examples
    --------
    >>> import attngraph as ag
    >>> ag.alibi_slopes(4).tolist()
    [0.25, 0.0625, 0.015625, 0.00390625]
    """
    return np.array(_native.alibi_slopes(_values.positive(heads, "heads"), _values.number(max_bias, "max_bias")))


def _slopes(alibi, heads):
    """Slopes as the library reads them, on the host."""
    if isinstance(alibi, str):
        _values.one_of(alibi, "alibi", "standard")
        return tensor(alibi_slopes(heads), "alibi")
    if hasattr(alibi, "detach"):
        alibi = alibi.detach().cpu().double()
    return tensor(np.ascontiguousarray(np.asarray(alibi, np.float64)), "alibi")


def _stats_bits(stats, has_tokens=False):
    bits = 0
    for name in [stats] if isinstance(stats, str) or not hasattr(stats, "__iter__") else stats:
        if not isinstance(name, str) or name not in _STATS:
            raise ArgumentError(f"stats names {name!r}; it may name {', '.join(map(repr, _STATS))}")
        bits |= _STATS[name]
        if name == "heads" and has_tokens:
            bits |= _STATS["tokens"]
    return bits


def _ids(ids, name):
    """Integers as the library reads them; None in a list (a special token is in no word) is -1."""
    if isinstance(ids, (list, tuple)) and any(n is None for n in ids):
        ids = [-1 if n is None else n for n in ids]
    if hasattr(ids, "detach"):
        ids = ids.detach().cpu()
    ids = np.asarray(ids)
    if ids.dtype.kind not in "iu" and ids.size:
        raise DtypeError(f"{name} is an array of {ids.dtype}; it holds integers")
    return tensor(np.ascontiguousarray(ids, dtype=np.int64), name)


def ids_at(ids, begin, count, name):
    """The ids of `count` positions from `begin` on, out of those of a whole sequence; count None: all."""
    if ids is None or count is None:
        return ids
    if isinstance(ids, (list, tuple)):
        ids = np.array([-1 if n is None else n for n in ids])
    if ids.shape[-1] < begin + count:
        raise ShapeError(
            f"{name} has {ids.shape[-1]} entries, but the model has read {begin + count} tokens; give one for each"
        )
    return ids[..., begin : begin + count]
