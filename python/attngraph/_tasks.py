# SPDX-License-Identifier: Apache-2.0
"""A problem cut into tasks that any launcher can run: Ray, torchrun, MPI, a batch queue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from . import _native, _values
from ._extract import _heads_of, _laid_out, has_one_per_layer, layer_pairs
from ._inputs import of_layer
from ._options import Options

PAIRS_PER_TASK = 2**31  # some three seconds of one core


class Task(NamedTuple):
    """A part of a problem that any process can do alone: some query heads of one layer, a range of queries."""

    layer: int
    heads: tuple[int, ...]
    query_begin: int
    query_end: int
    pairs: int  # (query, key) that causal, window and key lengths leave: what it costs

    @property
    def part(self) -> dict[str, Any]:
        """What `extract` takes to do it: ``extract(q, k, **task.part)``, where q and k are those of the task's layer."""
        return {"layer": self.layer, "heads": list(self.heads), "query_range": (self.query_begin, self.query_end)}

    @property
    def name(self) -> str:
        """A text that tells it from the other tasks of its plan, fit for a file name, in their order."""
        heads = f"{self.heads[0]:04d}-{self.heads[-1]:04d}"
        return f"layer-{self.layer:04d}.heads-{heads}.queries-{self.query_begin:010d}-{self.query_end:010d}"


def plan(
    q: Any,
    k: Any = None,
    *,
    causal: bool = True,
    query_offset: int | None = None,
    key_lengths: Sequence[int] | None = None,
    window: Any = None,
    layers: int | Sequence[int] | None = None,
    layer: int = 0,
    heads: Any = None,
    query_range: tuple[int, int] | None = None,
    layout: Literal["bhsd", "bshd"] = "bhsd",
    pairs_per_task: int = PAIRS_PER_TASK,
) -> list[Task]:
    """Cut what `extract` would do into tasks, in the order of its answer.

    The list depends on shapes and mask rules alone: every process that asks has the same one, so nothing need be sent.
    The graphs of the tasks, joined by `concat`, are the graph of the whole, its edges and rows bit for bit. Sums over
    queries (``stats="columns"``, "distances") are added in another order where a head is cut into ranges of queries.

    Parameters
    ----------
    q, k : array, or its shape as a tuple
        As in `extract`; nothing is read.
    causal, query_offset, key_lengths, window, layers, layer, heads, query_range, layout
        As in `extract`.
    pairs_per_task : int
        Pairs (query, key) of a task, about. The heads that share a key head stay together; where they have more pairs
        they are cut into ranges of queries, which begin at multiples of 384.

    Returns
    -------
    list of Task

    Examples
    --------
    >>> import attngraph as ag
    >>> tasks = ag.plan((1, 8, 4096, 64), (1, 2, 4096, 64), pairs_per_task=2**25)
    >>> len(tasks), tasks[0].heads, tasks[0].query_end, tasks[1].query_begin
    (4, (0, 1, 2, 3), 3072, 3072)
    """
    pairs_per_task = _values.positive(pairs_per_task, "pairs_per_task")
    if k is None and isinstance(q, dict):
        q = {
            label: (_standing_for(pair[0]), _standing_for(pair[1])) if isinstance(pair, (list, tuple)) and len(pair) == 2 else pair
            for label, pair in q.items()
        }
    pairs, many = layer_pairs(_standing_for(q), _standing_for(k), layers, layer)
    heads, key_lengths = _values.kept(heads), _values.kept(key_lengths)
    tasks = []
    for label, (queries, keys) in pairs.items():
        queries, keys = _laid_out(queries, "q", layout), _laid_out(keys, "k", layout)
        own = _values.chosen(of_layer(heads, label, many and has_one_per_layer("heads", heads)), "heads", _heads_of(queries))
        options = Options(
            causal=causal, query_offset=query_offset, key_lengths=key_lengths, query_range=query_range, layer=label,
            window=of_layer(window, label, many), heads=own,
        ).native()  # fmt: skip
        among = list(_heads_of(queries)) if own is None else own
        for where, first, last, *rest in _native.plan_tasks(queries, keys, options, pairs_per_task):
            tasks.append(Task(where, tuple(among[first:last]), *rest))
    return tasks


def _standing_for(value):
    """An array of that shape without memory, for a shape."""
    is_shape = isinstance(value, (tuple, list)) and len(value) >= 2 and all(type(n) is int for n in value)
    return np.broadcast_to(np.float32(0), value) if is_shape else value
