# SPDX-License-Identifier: Apache-2.0
"""Passes of a model over its sequences, and which of them continue which.

A pass continues another one where the keys that it read from its cache are the keys that the other one had: every row of
the batch is looked up by them. So two caches of one model stay apart, beams are followed when they are exchanged, and
tokens that a draft guessed wrong fall out, without knowing any of these by name.
"""

from __future__ import annotations

import weakref
from typing import Any, NamedTuple

from . import _native
from ._making import from_slices
from ._operations import joined, parts
from ._stitch import Place, stitched
from .graph import Graph
from .records import Csr, together

_SAMPLE = 16  # numbers of a key that stand for it
_ROUNDING = {1: 1, 2: 8, 4: 1 << 12, 8: 1 << 32}  # by bytes of a number: how far apart two may be by rounding alone


class Print(NamedTuple):
    """What stands for the keys of a layer after a pass."""

    keys: Any  # print_of them
    begin: int  # position of the first
    kept: Any = None  # prints of one `kept` have the same keys as far as both go


def print_of(key):
    """[B, N, 16] integers: the same bits wherever a key is the same."""
    import torch

    heads, size = key.shape[1], key.shape[3]
    places = torch.linspace(0, heads * size - 1, _SAMPLE, device=key.device).long()
    sample = key.detach().permute(0, 2, 1, 3)[:, :, places // size, places % size]
    bits = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[sample.element_size()]
    return sample.contiguous().view(bits)


class Pass:
    """One call of a stack of layers. A `kind` is "encoder", "decoder" or "cross"."""

    def __init__(self, begin, queries, batch, cache):
        self.begin, self.queries, self.batch = begin, queries, batch
        self.kept = begin + queries  # positions that the cache still held after it; a draft's wrong guesses are dropped
        self.cache = _reference(cache)
        self.prints = {}  # (kind, layer): Print
        self.graphs = {}  # kind: [(Graph, Place)]
        self.ids = None  # [B, queries] token ids, where the model was given any
        self.rows = None  # for every row, the row of the pass before that it continues

    @property
    def end(self):
        return self.begin + self.queries

    def slices(self, kind):
        """{batch: [(slice, csr, rows)]} at positions of the whole sequence."""
        found = {}
        for graph, place in self.graphs.get(kind, ()):
            for s, csr, rows in parts(graph):
                if place.key_begin:
                    csr = Csr(csr.indptr, csr.indices + place.key_begin, csr.data)
                    rows = rows._replace(max_key=rows.max_key + place.key_begin * (rows.max_key >= 0))
                s = s._replace(query_begin=place.query_begin, key_count=place.key_begin + s.key_count)
                found.setdefault(s.batch, []).append((s, csr, rows))
        return found

    def continued_rows(self, later):
        """For every row of a later pass the row of this one whose keys it read; None unless all have one. Rows with the
        same keys are the same sequence: the row of the same number is taken then, or the first."""
        import torch

        if self.prints.keys() != later.prints.keys() or not 0 < later.begin <= self.end:
            return None
        told = False  # whether any layer holds keys that both have seen
        same = torch.ones(later.batch, self.batch, dtype=torch.bool)
        straight = later.batch == self.batch
        pairs = []
        for place, (new, new_begin, new_kept) in later.prints.items():
            old, old_begin, old_kept = self.prints[place]
            begin, end = max(new_begin, old_begin), later.begin
            if place[0] == "cross":
                if new.shape[1] != old.shape[1]:
                    return None
                begin, end = 0, new.shape[1]
            if begin < end:
                told = told or place[0] != "cross"
                if new_kept is not None and new_kept is old_kept:
                    continue
                pairs.append((new[:, begin - new_begin : end - new_begin], old[:, begin - old_begin : end - old_begin]))
        if not told and not (straight and self.cache() is not None and later.cache() is self.cache()):
            return None
        # One look at the device where rows stay where they are, as they do unless there are beams.
        if straight and all(_equal(pairs)):
            return list(range(later.batch))
        for new, old in pairs:
            same &= torch.stack([(row == old.to(row.device)).all(-1).all(-1).cpu() for row in new])
        if not bool(same.any(1).all()):
            return None
        own = torch.arange(later.batch).clamp(max=self.batch - 1)
        stays = same[torch.arange(later.batch), own] if straight else torch.zeros(later.batch, dtype=torch.bool)
        return torch.where(stays, own, same.int().argmax(1)).tolist()


class Running:
    """What a stack of layers has done in the pass that is running."""

    def __init__(self):
        self.begin = None  # position of the first query, once a layer has said it
        self.prints = {}
        self.self_layer = 0
        self.decodes = False
        self._sinks = {}  # (kind, Place): what its layers share, so that their edges are stored once
        self._size = None

    def sink(self, where, place, batch, queries):
        self._size = batch, queries
        if where.kind == "decoder":
            self.self_layer, self.decodes = where.layer, True
        key = where.kind, place
        if key not in self._sinks:
            self._sinks[key] = sink = _native.Sink.collect()
            sink.set_metadata("attention", where.kind)
            sink.set_metadata("stack", where.stack)
        return self._sinks[key]

    def finished(self, cache):
        if self._size is None:  # none of its layers was asked for
            return None
        batch, queries = self._size
        step = Pass(self.begin or 0, queries, batch, cache)
        step.prints = self.prints
        for (kind, place), sink in self._sinks.items():
            step.graphs.setdefault(kind, []).append((Graph(sink.take_result()), place))
        return step


class Stream:
    """Passes that continue one another: one sequence, or one batch of them."""

    def __init__(self, stack, passes):
        self.stack, self.passes = stack, passes
        self._made = {}  # kind: (number of passes, graph)
        self._inputs = None  # of the rows of the first pass, while its prints are there

    def inputs(self):
        """For every row of the first pass the number of what it read, words and another sequence: beams of one input stand
        side by side, and have the same keys, up to the order in which a row of a batch is summed."""
        import torch

        if self._inputs is None:
            first = self.passes[0]
            other = torch.zeros(first.batch, dtype=torch.bool)
            for keys, _, _ in first.prints.values():
                apart = (keys[1:].long() - keys[:-1].long()).abs() > _ROUNDING[keys.element_size()]
                other[1:] |= (apart.flatten(1).double().mean(1) > 0.1).cpu()
            self._inputs = other.cumsum(0).tolist()
        return self._inputs

    @property
    def last(self):
        return self.passes[-1]

    def rank(self, step):
        """How well a pass goes on from here: 4 at the end of the same cache, 3 inside the same cache's last pass (the
        rest of it was guessed wrong), 2 at the end, 1 as a branch from an earlier position."""
        same, at_end = step.cache() is not None and self.last.cache() is step.cache(), self.last.end == step.begin
        return 4 if same and at_end else 3 if same and step.begin > self.last.begin else 2 if at_end else 1

    def kinds(self):
        return [kind for kind in ("encoder", "decoder", "cross") if any(p.graphs.get(kind) for p in self.passes)]

    def path(self, number, row):
        """[(pass, row, position after the last query that stayed)] up to a row of a pass."""
        found, end = [], self.passes[number].kept
        for at in range(number, -1, -1):
            step = self.passes[at]
            found.append((step, row, min(step.end, end)))
            end = step.begin
            row = step.rows[row] if at > 0 else row
        return found[::-1]

    def reordered(self):
        return any(p.rows != list(range(p.batch)) for p in self.passes[1:])

    def ids(self, number, row):
        """Token ids of the positions that were read, None where they are not known."""
        found = [None] * self.passes[0].begin
        for step, own, end in self.path(number, row):
            known = step.ids[own].tolist() if step.ids is not None else [None] * step.queries
            found += known[: end - step.begin]
        return found

    def graph(self, kind, paths=None, facts=None):
        """One graph; batch b is the sequence that ends in row b of the last pass, or the one that paths[b] names."""
        known = self._made.get(kind)
        if paths is None and known is not None and known[0] == len(self.passes):
            return known[1]
        whole = self.graph_of(kind, paths or [self.path(len(self.passes) - 1, b) for b in range(self.last.batch)], facts)
        if paths is None:
            self._made[kind] = len(self.passes), whole
        return whole

    def graph_of(self, kind, paths, facts=None):
        pieces = [piece for step in self.passes for piece in step.graphs.get(kind, ())]
        first = pieces[0][0]
        straight = paths == [[(self.passes[0], b, self.passes[0].end)] for b in range(self.last.batch)]
        if straight and len(pieces) == 1 and pieces[0][1] == Place(0, 0) and not facts:
            return first
        if self.reordered():
            facts = {"batch": "every sequence followed back through the reorderings of its cache", **(facts or {})}
        whole = [[(step, b, step.end) for step in self.passes] for b in range(self.last.batch)]
        if paths == whole and not self.reordered():
            return stitched(pieces, None, facts or {})
        slices = {id(step): step.slices(kind) for step in self.passes}
        rows = joined(
            _cut(s._replace(batch=batch), csr, rows, end, kind)
            for batch, path in enumerate(paths)
            for step, row, end in path
            for s, csr, rows in slices[id(step)].get(row, ())
        )
        report = together(graph.report for graph, _ in pieces)
        return from_slices(rows, None, {**first.metadata, "query_offset": "0", **(facts or {})}, report=report)


class Streams:
    """All that a capture saw, in the order in which it began."""

    def __init__(self):
        self.all = []

    def add(self, stack, step):
        """Put a pass where it belongs."""
        best, found = 0, None
        for stream in reversed([stream for stream in self.all if stream.stack == stack]):
            rows = stream.last.continued_rows(step)
            # Several may fit, where sequences are equal so far: what the same cache goes on with comes first.
            rank = 0 if rows is None else stream.rank(step)
            if rank > best:
                best, found = rank, (stream, rows)
        if found is None:
            self.all.append(Stream(stack, [step]))
            return
        stream, step.rows = found
        if best > 1:
            stream.inputs()
            stream.last.prints = {}
            stream.passes.append(step)
            return
        # A branch: what was read before it belongs to both.
        history = list(stream.passes)
        while history and history[-1].begin >= step.begin:
            step.rows = None if history[-1].rows is None else [history[-1].rows[row] for row in step.rows]
            history.pop()
        branch = Stream(stack, [*history, step])
        branch._inputs = stream.inputs() if history else None
        self.all.append(branch)


def _cut(s, csr, rows, end, kind):
    count = min(s.query_count, end - s.query_begin)
    if count == s.query_count:
        return s, csr, rows
    edges = int(csr.indptr[count])
    return (
        s._replace(
            query_count=count, edge_count=edges, key_count=s.key_count if kind == "cross" else min(s.key_count, end)
        ),
        Csr(csr.indptr[: count + 1], csr.indices[:edges], csr.data[:edges]),
        type(rows)(*(column[:count] for column in rows)),
    )


def _equal(pairs):
    import torch

    by_device = {}
    for new, old in pairs:
        if new.shape != old.shape:
            yield False
            return
        by_device.setdefault(new.device, []).append((new == old.to(new.device)).all())
    for found in by_device.values():
        yield bool(torch.stack(found).all())


def _reference(cache):
    try:
        return weakref.ref(cache)
    except TypeError:
        return lambda: None
