# SPDX-License-Identifier: Apache-2.0
"""One large problem as work that can be given away: arrays that travel, tasks, and what both are called in a manifest."""

from __future__ import annotations

import inspect
import sys
from typing import Any, NamedTuple

import numpy as np

from .. import _extract, _native, _tasks, _values
from .._inputs import chosen_layers, is_array, of_layer
from .._labels import is_many, token_bytes
from ..errors import ArgumentError, ShapeError, UnsupportedError
from ..graph import Graph
from . import _manifest

_BY_LAYER = ("window", "heads", "scale", "softcap", "alibi", "mask", "sinks", "lse")
_OF_TASKS = ("q", "k", "layers", "layer", "heads", "query_range", "tokens")
_NO_PART_OF_THE_ANSWER = ("threads", *_OF_TASKS)


class Work(NamedTuple):
    """What `extract` was asked, cut into tasks."""

    tasks: list[_tasks.Task]
    layers: dict[int, tuple[np.ndarray, np.ndarray]]  # bfloat16 as uint16
    bfloat16: bool
    how: dict[int, dict[str, Any]]  # by layer: what extract takes beside q, k and the task
    tokens: Any  # labels of the whole, that tasks need not carry

    def parameters(self) -> dict[str, Any]:
        """What a manifest remembers of it: texts, numbers and, of arrays, what they are known by."""
        shared = {
            name: _remembered(value)
            for name, value in next(iter(self.how.values()), {}).items()
            if name not in (*_BY_LAYER, *_NO_PART_OF_THE_ANSWER)
        }
        for name in _BY_LAYER:
            values = {str(label): _remembered(how.get(name)) for label, how in self.how.items() if how.get(name) is not None}
            if values:
                shared[name] = values
        shared["bfloat16"] = self.bfloat16
        shared["tokens"] = None if self.tokens is None else _manifest.fingerprint(np.array(repr(self.tokens).encode()))
        for place, name in enumerate(("q", "k")):
            shared[name] = {str(label): _manifest.fingerprint(pair[place]) for label, pair in self.layers.items()}
        return shared


def prepare(q: Any, k: Any, threshold: float, pairs_per_task: int, how: dict[str, Any]) -> Work:
    """The work of ``extract(q, k, threshold, **how)``; wrong names and values are told here, not by a worker."""
    bound = inspect.signature(_extract.extract).bind(q, k, threshold, **how)
    bound.apply_defaults()
    given = dict(bound.arguments)
    for name in ("budget", "head_budget"):
        if given.pop(name, None) is not None:
            raise UnsupportedError(f"{name} is over all edges, and a task sees its own; take g.filter({name}=...) of the answer")
    pairs, many, bfloat16 = _layers(q, k, given["layers"], given["layer"])
    for name in ("heads", "key_lengths", "stats"):
        given[name] = _values.kept(given[name])
    tasks = _tasks.plan(
        {label: tuple(np.broadcast_to(np.float32(0), a.shape) for a in pair) for label, pair in pairs.items()},
        pairs_per_task=pairs_per_task, layers=None,
        heads=_by_layer("heads", given["heads"], pairs, many), window=_by_layer("window", given["window"], pairs, many),
        **{name: given[name] for name in ("causal", "query_offset", "key_lengths", "query_range", "layout")},
    )  # fmt: skip
    tokens = _values.kept(given["tokens"])
    asks_tokens = {given["stats"]} if isinstance(given["stats"], str) else set(given["stats"])
    carried = bool(asks_tokens & {"tokens", "heads"}) and given["token_ids"] is None
    own = {name: value for name, value in given.items() if name not in _OF_TASKS}
    if carried:
        own["tokens"] = tokens
    by_layer = {}
    for label in pairs:
        values = {
            # A list of slopes has one for each head, as of every layer.
            name: of_layer(own[name], label, many and name != "alibi") if name in _BY_LAYER else own[name]
            for name in own
        }
        by_layer[label] = {name: _sent(value, name) for name, value in values.items() if value is not None}
    return Work(tasks, pairs, bfloat16, by_layer, None if carried else _texts(tokens))


def run(task: _tasks.Task, q: np.ndarray, k: np.ndarray, bfloat16: bool, how: dict[str, Any], threads: int | None) -> Graph:
    """Do a task. q and k are those of its layer, whole: positions and precision are those of the whole problem."""
    q, k = as_given(q, k, bfloat16)
    how = how if threads is None else {**how, "threads": threads}
    return _extract.extract(q, k, **how, **task.part)


def as_given(q: np.ndarray, k: np.ndarray, bfloat16: bool) -> tuple[Any, Any]:
    """What `as_numpy` was given, as `extract` takes it."""
    if not bfloat16:
        return q, k
    return tuple(_native.Tensor(array, name, as_bfloat16=True) for array, name in ((q, "q"), (k, "k")))


def as_numpy(array: Any, name: str) -> tuple[np.ndarray, bool]:
    """An array of any library as NumPy's, in host memory; bfloat16 as uint16, and whether it is that."""
    if hasattr(array, "detach"):
        array = array.detach().cpu()
        if str(array.dtype) == "torch.bfloat16":
            return array.view(sys.modules["torch"].int16).numpy().view(np.uint16), True
    if not isinstance(array, np.ndarray):
        array = np.asarray(array)
    if array.dtype.name == "bfloat16":
        return array.view(np.uint16), True
    if array.dtype.kind not in "fbiu":
        raise UnsupportedError(f"{name} is an array of {array.dtype}; it holds numbers")
    return array, False


def _layers(q, k, layers, layer):
    """``{layer: (q, k)}`` in NumPy, whether there are many, whether they are bfloat16."""
    if k is None:
        if not isinstance(q, dict) or any(not isinstance(p, (list, tuple)) or len(p) != 2 for p in q.values()):
            raise ArgumentError("k is missing; only {layer: (q, k)} goes without it")
        queries, keys = ({label: pair[place] for label, pair in q.items()} for place in (0, 1))
    else:
        queries, keys = _split(q, "q"), _split(k, "k")
    many = queries is not None or keys is not None
    if not many:
        if layers is not None:
            raise ArgumentError("layers chooses among many layers; q and k are of one, whose label is layer=")
        queries, keys = {layer: q}, {layer: k}
    if queries is None or keys is None or queries.keys() != keys.keys():
        raise ShapeError("q and k have different layers; give both for the same ones")
    pairs, kinds = {}, set()
    for label in chosen_layers({_values.integer(label, "layer", least=0): 0 for label in queries}, layers if many else None):
        found = [as_numpy(queries[label], "q"), as_numpy(keys[label], "k")]
        pairs[label] = tuple(array for array, _ in found)
        kinds |= {kind for _, kind in found}
    if len(kinds) > 1:
        raise UnsupportedError("some of q and k are bfloat16 and some are not; convert them to one type")
    return pairs, many, kinds == {True}


def _split(value, name):
    if isinstance(value, dict):
        return value
    if isinstance(value, (list, tuple)) and value and all(m is None or is_array(m) for m in value):
        return {label: member for label, member in enumerate(value) if member is not None}
    if len(getattr(value, "shape", ())) == 5:
        return {label: value[label] for label in range(value.shape[0])}
    return None


def _by_layer(name, value, pairs, many):
    """A dict of a value for every layer, as a plan of layers takes it."""
    if many and _extract.has_one_per_layer(name, value):
        return {label: of_layer(value, label, many) for label in pairs}
    return value


def _sent(value, name):
    if not is_array(value):
        return value
    array, is_bfloat16 = as_numpy(value, name)
    if is_bfloat16:
        raise UnsupportedError(f"{name} is bfloat16; convert it to float32")
    return array


def _texts(tokens):
    """Labels as JSON holds them: bytes that are no UTF-8 as lone surrogates."""
    if tokens is None:
        return None
    lists = tokens if is_many(tokens) else [tokens]
    texts = [[token.decode("utf-8", "surrogateescape") for token in token_bytes(one)] for one in lists]
    return texts if is_many(tokens) else texts[0]


def _remembered(value):
    if is_array(value):
        return _manifest.fingerprint(value)
    if isinstance(value, (set, range)):
        value = sorted(value)
    if isinstance(value, (list, tuple)):
        return [_remembered(member) for member in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
