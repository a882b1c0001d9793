# SPDX-License-Identifier: Apache-2.0
"""Words of the keys and of the queries: one list for all sequences of a batch, or one list for each."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from typing import NamedTuple, Union

import numpy as np

from ._token_texts import token_texts
from ._values import integer_of, is_collection
from .errors import ArgumentError, DtypeError, ShapeError

Labels = Union[Sequence[Union[str, bytes]], Sequence[Sequence[Union[str, bytes]]]]


_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class Words:
    """The words of a graph, all in one list: `texts`, whose last is "" for what has none; `plain` are the same as text
    for other programs."""

    def __init__(self, keys, queries, query_offset, two_sided):
        self._keys = self._lay_out(keys, 0)
        self._queries = self._lay_out(queries, len(self._keys.texts))
        # Queries without words of their own are called by the key that stands where they stand, unless they are others.
        self._shift = None if queries or two_sided else query_offset
        self.texts = [*self._keys.texts, *self._queries.texts, ""]
        self.there = len(self.texts) > 1

    @staticmethod
    def _lay_out(lists, begin):
        lengths = np.array([len(own) for own in lists], dtype=np.int64)
        starts = begin + np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])[:-1]
        return _Lists([text for own in lists for text in own], starts, lengths)

    @property
    def plain(self):
        return [written(text) for text in self.texts]

    def places(self, side, batch, index):
        """Where the words of queries or keys stand in `texts`, for arrays of sequences and of their own numbers."""
        batch, index = np.asarray(batch), np.asarray(index)
        lists = self._queries if side == "query" else self._keys
        if side == "query" and self._shift is not None:
            lists, index = self._keys, index + self._shift
        nothing = np.full(index.shape, len(self.texts) - 1)
        if not len(lists.lengths):
            return nothing
        own = np.zeros_like(batch) if len(lists.lengths) == 1 else batch
        known = own < len(lists.lengths)
        own = np.where(known, own, 0)
        known &= (index >= 0) & (index < lists.lengths[own])
        return np.where(known, lists.starts[own] + index, nothing)

    def text(self, side, batch, index):
        return self.texts[int(self.places(side, batch, index))]


class _Lists(NamedTuple):
    texts: list
    starts: np.ndarray  # of each list, in Words.texts
    lengths: np.ndarray


def written(token):
    """A token as text for other programs: each byte that is no UTF-8 (half an emoji, say) becomes U+FFFD.

    Python keeps such bytes as lone surrogates, which no file of text can hold.
    """
    return _LONE_SURROGATE.sub("\ufffd", token)


def set_labels(sink, tokens, query_tokens=None):
    """Hand both to a sink; None is none. Gives how many lists, one per sequence, there were of each, 0 for an empty
    one."""
    counts = {}
    for name, texts in (("tokens", tokens), ("query_tokens", query_tokens)):
        if texts is not None:
            lists = _lists(texts, name)
            for batch, own in lists:
                sink.set_labels(name == "query_tokens", batch, own)
            if lists[0][0] >= 0 or not lists[0][1]:
                counts[name] = len(lists) if lists[0][0] >= 0 else 0
    return counts


def lists_of(result, queries):
    """The lists of words that a result has for a side: one for all sequences, or one for each."""
    return [[text.decode("utf-8", "surrogateescape") for text in own] for own in result.labels(queries)]


def require_one_each(counts, graph):
    """Lists that are one per sequence must be as many as there are sequences: a single one would go to all."""
    sequences = max((s.batch for s in graph.slices), default=-1) + 1
    for name, count in counts.items():
        positions = max((s.key_count if name == "tokens" else s.query_count for s in graph.slices), default=0)
        if count == 0 and positions == 0:
            continue
        if count == 0:
            side = "key" if name == "tokens" else "query"
            raise ShapeError(f"{name} is empty, but there are {positions} positions; label every {side} or none")
        if count != sequences:
            raise ShapeError(f"{name} has {count} lists; there are {sequences} sequences, and each has one")
    return graph


def is_many(texts):
    """Whether these are lists, one per sequence."""
    return any(not isinstance(text, (str, bytes, bytearray)) and is_collection(text) for text in texts)


def without_last(texts, count):
    """Texts of `count` positions out of as many, or one more."""
    if texts is None:
        return None
    texts = listed(texts, "tokens")
    if is_many(texts):
        return [without_last(own, count) for own in texts]
    return texts[:count] if len(texts) == count + 1 else texts


def token_bytes(tokens, name="tokens"):
    """Token texts as the library keeps them: bytes, UTF-8 for str."""
    texts = []
    for position, token in enumerate(listed(tokens, name)):
        if isinstance(token, (bytes, bytearray)):
            texts.append(bytes(token))
        elif isinstance(token, str):
            texts.append(_encoded(token))
        else:
            hint = "" if integer_of(token) is None else "; attngraph.token_texts(ids, tokenizer) makes texts of token ids"
            raise DtypeError(f"{name}[{position}] is {type(token).__name__}; a token is str or bytes{hint}")
    return texts


def _lists(texts, name):
    """(number of the sequence, texts); -1 stands for all."""
    texts = listed(texts, name)
    if not is_many(texts):
        return [(-1, token_bytes(texts, name))]
    return [(batch, token_bytes(own, f"{name}[{batch}]")) for batch, own in enumerate(texts)]


def listed(texts, name="tokens"):
    """A list of what is one; a text, a dict (a vocabulary) and a set (which has no order) are none."""
    wanted = "it must be a list with one text per position"
    if getattr(texts, "encodings", None):  # what a fast tokenizer of transformers answers
        texts = [token_texts(encoding.tokens) for encoding in texts.encodings]
        return texts[0] if len(texts) == 1 else texts
    if isinstance(texts, (str, bytes, bytearray)):
        raise ArgumentError(f"{name} is one text; {wanted}")
    if isinstance(texts, (Mapping, Set)) or not is_collection(texts):
        raise ArgumentError(f"{name} is {type(texts).__name__}; {wanted}")
    return texts.to_pylist() if hasattr(texts, "to_pylist") else list(texts)  # of pyarrow, whose elements are no str


def _encoded(token):
    """UTF-8. Lone surrogates that stand for bytes (``errors="surrogateescape"``) become these bytes; others, halves of
    a character in UTF-16, have no bytes and become U+FFFD."""
    try:
        return token.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in token).encode("utf-8")
