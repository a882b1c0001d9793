# SPDX-License-Identifier: Apache-2.0
"""Answers of a capture: graphs with the words of their positions, and those of the sequences that were generated."""

from __future__ import annotations

from ._labels import is_many, listed
from ._making import with_words
from ._token_texts import token_texts
from .errors import ArgumentError, Error, NotFoundError


def failure():
    return Error("a call failed while the model ran; run it again in a new capture")


def labelled(stream, kind, streams, tokens, tokenizer):
    """The graph of a stream, with words where the caller gave any, or a tokenizer."""
    graph = stream.graph(kind)
    keys = max(s.key_count for s in graph.slices)
    queries = max(s.query_begin + s.query_count for s in graph.slices)
    if tokens is not None:
        if isinstance(tokens, dict):
            unknown = set(tokens) - {"encoder", "decoder"}
            if unknown:
                raise ArgumentError(f"tokens has {sorted(unknown)[0]!r}; it may have 'encoder' and 'decoder'")
            own, other = tokens.get("encoder" if kind in ("encoder", "cross") else "decoder"), tokens.get("decoder")
        else:
            # One list is that of the keys; queries of a cross attention are other words.
            own, other = tokens, None
        return with_words(graph, _cut(own, keys), _cut(other, queries) if kind == "cross" else None)
    if tokenizer is None:
        return graph
    paths = range(stream.last.batch)
    read = [_texts(tokenizer, stream.ids(len(stream.passes) - 1, row)) for row in paths]
    if kind != "cross":
        return with_words(graph, _padded(read, keys), None)
    return with_words(graph, _padded(_read_by_encoder(tokenizer, stream, streams, keys), keys), _padded(read, queries))


def followed(streams, rows, attention):
    """The graph of the sequences with these token ids, wherever their rows went."""
    if len({id(stream) for stream in streams}) > 1:
        streams = [stream for stream in streams if any(_best(stream, row) is not None for row in rows)][:1]
    if not streams:
        raise NotFoundError(f"there is no {attention} that read these sequences")
    stream = streams[0]
    paths = []
    for number, ids in enumerate(rows):
        best = _best(stream, ids, number * stream.passes[0].batch // len(rows))
        if best is None:
            raise NotFoundError(f"sequence {number} is none that the model read; give what generate returned")
        paths.append(stream.path(*best))
    return stream.graph(attention, paths)


def _best(stream, ids, place=0):
    """(number of the pass, row) that read most of these ids from the beginning. `place` is the row of the first pass where
    the sequence would stand: sequences with the same ids can come from different inputs, and inputs stay in order."""
    inputs, found = stream.inputs(), {}  # input: (positions read, (pass, row))
    wanted = inputs[place]
    for number in range(len(stream.passes) - 1, -1, -1):
        if wanted in found and stream.passes[number].kept < found[wanted][0]:
            break
        for row in range(stream.passes[number].batch):
            own = stream.ids(number, row)
            # Where nobody saw token ids (a model given embeddings), nothing says whose row it is.
            known = any(n is not None for n in own)
            if known and len(own) <= len(ids) and all(a is None or a == b for a, b in zip(own, ids)):
                of = inputs[stream.path(number, row)[0][1]]
                if of not in found or len(own) > found[of][0]:
                    found[of] = len(own), (number, row)
    if not found:
        return None
    return found[wanted if wanted in found else max(found, key=lambda of: found[of][0])][1]


def _read_by_encoder(tokenizer, stream, streams, keys):
    """The words of the sequences that a decoder attended to: of the encoder that ran before it."""
    for other in reversed(streams[: streams.index(stream)]):
        last = other.last
        if other.kinds() == ["encoder"] and last.queries == keys and last.ids is not None:
            each = max(1, stream.last.batch // last.batch)  # beams of a sequence stand side by side
            return [_texts(tokenizer, last.ids[min(b // each, last.batch - 1)].tolist()) for b in range(stream.last.batch)]
    return None


def _texts(tokenizer, ids):
    known = iter(token_texts([n for n in ids if n is not None], tokenizer))
    return ["" if n is None else next(known) for n in ids]


def _cut(tokens, count):
    """A token that was generated last has not been read by the model: it has a label, but no position."""
    if tokens is None:
        return None
    tokens = listed(tokens)
    return [listed(own)[:count] for own in tokens] if is_many(tokens) else tokens[:count]


def _padded(lists, count):
    if lists is None or not any(any(own) for own in lists):
        return None
    lists = [own[:count] + [""] * (count - len(own)) for own in lists]
    return lists[0] if len(lists) == 1 else lists
