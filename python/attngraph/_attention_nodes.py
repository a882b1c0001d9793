# SPDX-License-Identifier: Apache-2.0
"""Edges out of the attention nodes that llama.cpp shows to its evaluation callback."""

from __future__ import annotations

import dataclasses
import re
from typing import NamedTuple

import numpy as np

from . import _native
from ._ggml import Tensor
from ._options import alibi_slopes, ids_at
from .errors import NotFoundError, UnsupportedError
from .graph import Graph


class Products(NamedTuple):
    """queries times keys as llama.cpp is about to soften them, without flash attention."""

    layer: int
    query: np.ndarray
    key: Tensor
    keys: np.ndarray


class Listener:
    """The evaluation callback: makes edges of every attention node that it is shown."""

    def __init__(self, library, layers, selection):
        self._library = library
        self._layers = layers
        self._selection = selection
        self._context = _native.Context("cpu")
        self._operations = {}  # number: name
        self._error = None

    def begin(self, offset, count):
        """A ubatch of so many tokens that stands at an offset."""
        self._offset, self._count = offset, count
        self._sink = _native.Sink.collect()
        self._products = {}  # address of a node: what was multiplied there
        self._patterns = {}  # address of a mask: what it allows
        self._seen, self._made = set(), set()

    def end(self):
        """The graph of the ubatch."""
        if not self._seen:
            raise UnsupportedError("llama.cpp showed no attention node; the model has none, or another form of it")
        missing = sorted((self._layers or set()) - self._made)
        if missing:
            raise NotFoundError(f"layers {missing} have no attention; those that have are {sorted(self._seen)}")
        return Graph(self._sink.take_result())

    def rethrow(self):
        if self._error is not None:
            raise self._error

    def saw(self, address, ask, _user):
        """What llama.cpp calls: before a node is computed (ask; True wants to see it) and after. Nothing may be thrown
        through C: an error is kept, and no more of the model is computed."""
        if self._error is not None:
            return bool(ask)
        try:
            return self._saw(self._library.tensor(address), ask)
        except BaseException as error:
            self._error = error
            return bool(ask)

    def _saw(self, node, ask):
        number = node.c.op
        operation = self._operations.get(number)
        if operation is None:
            operation = self._operations[number] = node.op
        if operation == "FLASH_ATTN_EXT":
            layer = layer_of(node)
            self._seen.add(layer)
            if ask:
                return self._wanted(layer)
            scale, max_bias, softcap = (node.parameter(i) for i in range(3))
            key = node.source(1)
            self._attention(
                layer, node.source(0).read(), key, key.read(rows=self._offset + self._count),
                mask=node.source(3), sinks=node.source(4), scale=scale, max_bias=max_bias, softcap=softcap,
            )  # fmt: skip
        elif operation == "MUL_MAT":
            named = re.fullmatch(r"kq-(\d+)", node.name)
            if not named:
                return not ask
            layer = int(named[1])
            self._seen.add(layer)
            if ask:
                return self._wanted(layer)
            # The memory of the queries, and of keys outside a cache, is used again before the softmax.
            key = node.source(0)
            keys = key.read(rows=self._offset + self._count, copy=not key.stays)
            self._products[node.address] = Products(layer, node.source(1).read(copy=True), key, keys)
        elif operation == "SOFT_MAX" and ask and node.name.startswith("kq_soft_max"):
            layer = int(node.name.rpartition("-")[2])
            if self._wanted(layer):
                products, scale, softcap = self._scores(node)
                self._attention(
                    layer, products.query, products.key, products.keys, mask=node.source(1), sinks=node.source(2),
                    scale=scale, max_bias=node.parameter(1), softcap=softcap,
                )  # fmt: skip
            return False
        else:
            return not ask
        return True

    def _wanted(self, layer):
        return self._layers is None or layer in self._layers

    def _scores(self, node):
        """From a softmax back to the product: scale and softcap of what lies between.

        The forms are ``a * qk`` and ``a * c * tanh(b * qk)``, which has softcap a c and scale a b c.
        """
        outer, inner, tanh = node.parameter(0), 1.0, False
        below = node.source(0)
        while below.address not in self._products:
            operation = below.op
            if operation == "SCALE" and below.parameter(1) == 0:
                if tanh:
                    inner *= below.parameter(0)
                else:
                    outer *= below.parameter(0)
            elif operation == "TANH" and not tanh:
                tanh = True
            else:
                raise UnsupportedError(
                    f"{node.name} is the softmax of a {operation}, which is no form of scaled products that edges show"
                )
            below = below.source(0)
            if below is None:
                raise UnsupportedError(f"{node.name} is no softmax of queries times keys")
        products = self._products.pop(below.address)
        return (products, outer * inner, outer) if tanh else (products, outer, 0.0)

    def _attention(self, layer, query, key, keys, *, mask, sinks, scale, max_bias, softcap):
        if layer in self._made:
            raise UnsupportedError(f"layer {layer} attends twice in one pass, which edges cannot tell apart")
        if query.shape[0] != 1 or keys.shape[0] != 1:
            raise UnsupportedError(f"layer {layer} attends in {query.shape[0]} streams; one is supported")
        if query.shape[2] != self._count:
            raise UnsupportedError(f"layer {layer} has {query.shape[2]} queries for {self._count} tokens")
        slopes = alibi_slopes(query.shape[1], max_bias) if max_bias > 0 else None
        pattern = self._pattern(mask, keys.shape[2], slopes is not None)
        if slopes is not None and not pattern.falls and pattern.mask is not None and pattern.mask.dtype != bool:
            # Not the distances, or in f16 not exactly: the head's slope times what the mask says.
            pattern = pattern._replace(mask=(slopes[:, None, None] * pattern.mask[0]).astype(np.float32))
        ids = {name: ids_at(getattr(self._selection, name), 0, keys.shape[2], name) for name in ("token_ids", "word_ids")}
        options = dataclasses.replace(
            self._selection, layer=layer, causal=pattern.causal, window=pattern.window, scale=scale, softcap=softcap or None,
            query_offset=self._offset if pattern.causal or pattern.falls else None, mask=pattern.mask,
            sinks=None if sinks is None else sinks.read().reshape(-1), alibi=slopes if pattern.falls else None, **ids,
        ).native(range(query.shape[1]))  # fmt: skip
        bits = key.is_bfloat16
        query = _native.Tensor(key.rounded_like(query), "query", as_bfloat16=bits)
        self._context.extract(query, _native.Tensor(keys, "key", as_bfloat16=bits), options, self._sink)
        self._made.add(layer)

    def _pattern(self, mask, keys, biased):
        if mask is None:
            return Pattern(False, None, None, False)
        known = self._patterns.get(mask.c.data)
        if known is None:
            values = mask.read(rows=self._count)[..., :keys]
            known = self._patterns[mask.c.data] = pattern_of(values, self._offset, biased)
        return known


class Pattern(NamedTuple):
    """What a mask allows: by rules where they say it all, as an array where they do not."""

    causal: bool
    window: int | None
    mask: np.ndarray | None
    falls: bool  # what it adds is the distance of the key, below 0, and nothing else (ALiBi)


def pattern_of(mask, offset, biased=False):
    """The pattern of a mask [1, 1 or H, Nq, Nk] of 0, -inf and, rarely, something else that is added to the scores;
    biased: by distances, as llama.cpp writes them where a head's slope comes in.

    Rules are faster than a mask, and so is reading no mask: layers share one, and most are causal.
    """
    if biased:
        queries, keys = mask.shape[-2:]
        distance = np.abs(np.arange(offset, offset + queries)[:, None] - np.arange(keys))
        seen = mask != -np.inf
        if (np.where(seen, mask.astype(np.float32), 0) == np.where(seen, -distance, 0)).all():
            return pattern_of(np.where(seen, np.float32(0), np.float32(-np.inf)), offset)._replace(falls=True)
        return Pattern(False, None, np.ascontiguousarray(mask), False)
    bits = np.ascontiguousarray(mask).view(np.uint16 if mask.dtype == np.float16 else np.uint32)
    hidden = bits == (0xFC00 if mask.dtype == np.float16 else 0xFF800000)
    if (bits[~hidden] << 1).any():  # neither 0 nor -0
        return Pattern(False, None, np.ascontiguousarray(mask), False)
    seen = ~hidden
    if mask.shape[:2] == (1, 1):
        rows = seen[0, 0]
        queries, keys = rows.shape
        position = np.arange(offset, offset + queries)
        first, last, count = rows.argmax(1), keys - 1 - rows[:, ::-1].argmax(1), rows.sum(1)
        if (last == position).all() and (count == last - first + 1).all():
            if not first.any():
                return Pattern(True, None, None, False)
            window = int(count.max())
            if (first == np.maximum(position - window + 1, 0)).all():
                return Pattern(True, window, None, False)
        if seen.all():
            return Pattern(False, None, None, False)
    return Pattern(False, None, seen, False)


def layer_of(node):
    """The layer of a flash attention node: in its own name, or in that of what its queries come from."""
    level = [node]
    for _ in range(8):
        for tensor in level:
            named = re.search(r"-(\d+)(?: \(|$)", tensor.name)
            if named:
                return int(named[1])
        level = [s for t in level for s in (t.source(0), *([t.source(1)] if t is not node else [])) if s is not None]
    raise UnsupportedError(f"{node.name or 'an attention node'} does not say which layer it is of")
