# SPDX-License-Identifier: Apache-2.0
"""What a call asks for, as the library reads it: the same words in every function that makes a graph."""

import dataclasses
from typing import Any

import numpy as np

from . import _native, _values
from ._inputs import tensor
from .device_graph import stream_handle
from .errors import ArgumentError, DtypeError, ShapeError

_STATS = {
    "entropy": _native.STATS_ENTROPY,
    "columns": _native.STATS_COLUMNS,
    "distances": _native.STATS_DISTANCES,
    "tokens": _native.STATS_TOKENS,
    "heads": _native.STATS_HEADS,
}


@dataclasses.dataclass
class Options:
    """Every keyword that the library reads, under its own name: what a caller leaves out is not asked for."""

    # what is an edge
    threshold: Any = 0.05
    top_k: Any = None
    mass: Any = None
    max_edges: Any = None
    allow_dense: Any = False
    decision: Any = "fast"
    # the scores
    scale: Any = None
    softcap: Any = None
    alibi: Any = None
    # which keys a query may see
    causal: Any = False
    query_offset: Any = None
    window: Any = None
    key_lengths: Any = None
    mask: Any = None
    sinks: Any = None
    lse: Any = None
    lse_base: Any = "e"
    nonfinite: Any = "error"
    stats: Any = ()
    token_ids: Any = None
    word_ids: Any = None
    # which part
    query_range: Any = None
    heads: Any = None
    layer: int = 0
    # how
    backend: Any = None
    threads: Any = None
    products: Any = "auto"
    stream: Any = None
    workspace_bytes: Any = None

    def native(self, among=None, has_tokens=False):
        """As the library reads them; a wrong value is told by its name. `among`: the query heads there are, as far as they
        are known. `has_tokens`: whether texts say which tokens are equal."""
        options = _native.Options()
        for name, of in _VALUES.items():
            value = getattr(self, name)
            if value is not None:
                getattr(options, name)(of(value, name))
        options.threshold(_values.number(self.threshold, "threshold"))
        options.allow_dense(_values.flag(self.allow_dense, "allow_dense"))
        options.causal(_values.flag(self.causal, "causal"))
        options.layer(self.layer)
        options.certified(_values.one_of(self.decision, "decision", "fast", "certified") == "certified")
        options.nonfinite_skip(_values.one_of(self.nonfinite, "nonfinite", "error", "skip") == "skip")
        options.products_in_float(_values.one_of(self.products, "products", "auto", "float") == "float")
        # Words alone say no token: the library tells what is missing.
        ids_given = self.token_ids is not None or self.word_ids is not None
        options.stats(_stats_bits(self.stats, has_tokens or ids_given))
        _values.one_of(self.lse_base, "lse_base", "e", "2", 2)
        if self.heads is not None:
            options.heads(_values.chosen(self.heads, "heads", among))
        if self.alibi is not None:
            options.alibi(_slopes(self.alibi, len(among or [0])))
        if self.lse is not None:
            options.lse(tensor(self.lse, "lse"), self.lse_base != "e")
        if self.query_range is not None:
            ends = _values.integers(self.query_range, "query_range")
            if len(ends) != 2 or ends[0] >= ends[1]:
                raise ArgumentError(f"query_range is {tuple(ends)}; it is (begin, end) and holds at least one query")
            options.query_range(*ends)
        return options


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
    try:
        slopes = np.asarray(alibi, np.float64)
    except (TypeError, ValueError):
        raise DtypeError("alibi holds what is no number; it is 'standard', or a slope for every query head") from None
    return tensor(np.ascontiguousarray(slopes), "alibi")


def _stats_bits(stats, has_tokens=False):
    bits = 0
    for name in [stats] if isinstance(stats, str) or not _values.is_collection(stats) else stats:
        if not isinstance(name, str) or name not in _STATS:
            raise ArgumentError(f"stats names {name!r}; it may name {', '.join(map(repr, _STATS))}")
        bits |= _STATS[name]
        if name == "heads" and has_tokens:
            bits |= _STATS["tokens"]
    return bits


def _ids(ids, name):
    """Integers as the library reads them; None in a list (a special token is in no word) is -1."""
    ids = without_none(ids)
    if hasattr(ids, "detach"):
        ids = ids.detach().cpu()
    try:
        ids = np.asarray(ids)
    except ValueError:
        raise ShapeError(f"{name} has sequences of different lengths; give every one as many entries as there are keys") from None
    if ids.dtype.kind not in "iu" and ids.size:
        raise DtypeError(f"{name} is an array of {ids.dtype}; it holds integers")
    return tensor(np.ascontiguousarray(ids, dtype=np.int64), name)


def without_none(ids):
    """The same, where None in a list, or in a list of lists, is -1."""
    if isinstance(ids, (list, tuple)):
        return [-1 if n is None else without_none(n) for n in ids]
    return ids


# What of a keyword becomes the native option of its name, unless it is None.
_VALUES = {
    "top_k": _values.positive,
    "mass": _values.number,
    "max_edges": _values.positive,
    "scale": _values.number,
    "softcap": _values.number,
    "query_offset": _values.integer,
    "window": _values.positive,
    "key_lengths": _values.integers,
    "mask": tensor,
    "sinks": tensor,
    "token_ids": _ids,
    "word_ids": _ids,
    "backend": _values.text,
    "threads": lambda value, name: min(_values.positive(value, name), 2**31 - 1),
    "stream": lambda value, name: stream_handle(value),
    "workspace_bytes": _values.positive,
}


def ids_at(ids, begin, count, name):
    """The ids of `count` positions from `begin` on, out of those of a whole sequence; count None: all."""
    if ids is None or count is None:
        return ids
    if isinstance(ids, (list, tuple)):
        ids = np.array(without_none(ids))
    if ids.shape[-1] < begin + count:
        raise ShapeError(
            f"{name} has {ids.shape[-1]} entries, but the model has read {begin + count} tokens; give one for each"
        )
    return ids[..., begin : begin + count]
