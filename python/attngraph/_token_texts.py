# SPDX-License-Identifier: Apache-2.0
"""Tokens as the text that they stand for."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from ._values import integer, listed
from .errors import ArgumentError


def token_texts(tokens: Sequence[str | int], tokenizer: Any = None) -> list[str | bytes]:
    """The text that each token stands for: ``"\u0120the"`` and ``"\u2581the"`` are ``" the"``.

    Tokens that hold a part of a character come as bytes. Special tokens stay as they are.

    Parameters
    ----------
    tokens : sequence of str or int, or array of int
        Tokens as ``convert_ids_to_tokens`` gives them, or token ids, which need the tokenizer.
    tokenizer : transformers tokenizer, optional
        Says how its tokens are written. Without it the tokens themselves must show it: byte-level where all of their
        characters are of its alphabet and one begins with its blank, SentencePiece where one has ``"\u2581"``; tokens
        that show neither stay as they are.

    Examples
    --------
    >>> import attngraph as ag
    >>> ag.token_texts(["The", "\u0120caf", "\u00c3\u00a9", "\u010a", "<|endoftext|>"])
    ['The', ' caf', 'é', '\\n', '<|endoftext|>']
    """
    tokens = listed(tokens.tolist() if hasattr(tokens, "tolist") else tokens, "tokens", "texts or ids")
    special = frozenset()
    if tokenizer is not None:
        convert = getattr(tokenizer, "convert_ids_to_tokens", None)
        if convert is None:
            raise ArgumentError(f"tokenizer is a {type(tokenizer).__name__}, which has no convert_ids_to_tokens")
        tokens = [token if isinstance(token, (str, bytes)) else convert(integer(token, "a token id")) for token in tokens]
        special = frozenset(map(str, getattr(tokenizer, "all_special_tokens", ())))
        special |= {str(token) for token in getattr(tokenizer, "get_added_vocab", dict)()}
    for place, token in enumerate(tokens):
        if token is None:
            tokens[place] = ""  # an id beyond the vocabulary
        elif not isinstance(token, (str, bytes)):
            raise ArgumentError(f"tokens[{place}] is {token!r}; ids need the tokenizer, which knows their texts")
    write = _how(tokens, tokenizer, special)
    return [token if isinstance(token, bytes) or token in special else write(token) for token in tokens]


def _how(tokens, tokenizer, special):
    kinds = _kinds_of(tokenizer)
    if kinds is not None:
        pieces = kinds & {"Metaspace", "Replace", "ByteFallback"}
        return _byte_level if "ByteLevel" in kinds else _pieces if pieces else str
    texts = [t for t in tokens if isinstance(t, str) and t not in special and not _BRACKETS.fullmatch(t)]
    if any("\u2581" in token for token in texts):
        return _pieces
    if any(token[:1] in "\u0120\u010a" and token for token in texts) and all(set(t) <= _BYTES.keys() for t in texts):
        return _byte_level
    return str


def _kinds_of(tokenizer):
    """The decoders of a fast tokenizer, by type; None where nobody says."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    try:
        decoder = json.loads(backend.to_str())["decoder"] or {}
        return {step["type"] for step in [decoder, *decoder.get("decoders", ())] if "type" in step} or None
    except (ValueError, KeyError, TypeError):
        return None


def _byte_level(token):
    if _BRACKETS.fullmatch(token) or not set(token) <= _BYTES.keys():
        return token
    return _text(bytes(_BYTES[c] for c in token))


def _pieces(token):
    byte = re.fullmatch("<0x([0-9A-Fa-f]{2})>", token)
    return _text(bytes([int(byte[1], 16)])) if byte else token.replace("\u2581", " ")


def _text(data):
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data


def _alphabet():
    """The characters by which byte-level tokenizers write bytes: printable ones stand for themselves, the others for
    those from U+0100 on."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    other = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(0x100 + n): byte for n, byte in enumerate(other)}


_BYTES = _alphabet()
_BRACKETS = re.compile(r"<\|.*\|>|</?[a-z_]+>|\[[A-Z]+\]")  # how special tokens look
