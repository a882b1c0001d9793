# SPDX-License-Identifier: Apache-2.0
"""Words of the keys and of the queries: one list for all sequences of a batch, or one list for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Union

from ._token_texts import token_texts
from .errors import ArgumentError, DtypeError, UnsupportedError

Labels = Union[Sequence[Union[str, bytes]], Sequence[Sequence[Union[str, bytes]]]]


def set_labels(sink, tokens, query_tokens=None):
    """Hand both to a sink; None is none."""
    for side, texts in (("keys", tokens), ("queries", query_tokens)):
        if texts is not None:
            for batch, own in _lists(texts, "tokens" if side == "keys" else "query_tokens"):
                if side == "keys" and batch == -1:
                    sink.set_tokens(own)
                elif hasattr(sink, "set_labels"):
                    sink.set_labels(side == "queries", batch, own)
                else:
                    raise UnsupportedError("words of each sequence, or of queries alone, need a newer libattngraph")


def is_many(texts):
    """Whether these are lists, one per sequence."""
    return any(not isinstance(text, (str, bytes)) and hasattr(text, "__iter__") for text in texts)


def without_last(texts, count):
    """Texts of `count` positions out of as many, or one more."""
    if texts is None or not hasattr(texts, "__iter__") or isinstance(texts, (str, bytes)):
        return texts
    texts = list(texts)
    if is_many(texts):
        return [without_last(own, count) for own in texts]
    return texts[:count] if len(texts) == count + 1 else texts


def token_bytes(tokens, name="tokens"):
    """Token texts as the library keeps them: bytes, UTF-8 for str."""
    if isinstance(tokens, (str, bytes)):
        raise ArgumentError(f"{name} is one text; it must be a list with one text per position")
    texts = []
    for position, token in enumerate(_listed(tokens, name)):
        if isinstance(token, bytes):
            texts.append(token)
        elif isinstance(token, str):
            texts.append(_encoded(token))
        else:
            raise DtypeError(f"{name}[{position}] is {type(token).__name__}; a token is str or bytes")
    return texts


def _lists(texts, name):
    """(number of the sequence, texts); -1 stands for all."""
    if isinstance(texts, (str, bytes)):
        raise ArgumentError(f"{name} is one text; it must be a list with one text per position")
    if getattr(texts, "encodings", None):  # what a fast tokenizer of transformers answers
        texts = [token_texts(encoding.tokens) for encoding in texts.encodings]
        texts = texts[0] if len(texts) == 1 else texts
    texts = _listed(texts, name)
    if not is_many(texts):
        return [(-1, token_bytes(texts, name))]
    return [(batch, token_bytes(own, f"{name}[{batch}]")) for batch, own in enumerate(texts)]


def _listed(texts, name):
    try:
        return list(texts)
    except TypeError:
        raise ArgumentError(f"{name} is {type(texts).__name__}; it must be a list with one text per position") from None


def _encoded(token):
    """UTF-8. Lone surrogates that stand for bytes (``errors="surrogateescape"``) become these bytes; others, halves of
    a character in UTF-16, have no bytes and become U+FFFD."""
    try:
        return token.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in token).encode("utf-8")
