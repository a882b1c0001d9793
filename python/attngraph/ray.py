# SPDX-License-Identifier: Apache-2.0
"""Attention graphs by many processes and machines, on Ray: one large problem, a model over many prompts, and questions to
what they made. Answers are those of one machine, whatever the number of workers.

Start Ray yourself (``ray.init()``, or ``ray.init(address=...)`` for a cluster), or let the first call start one on this
machine.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

from . import _values
from ._extract import extract as extract_here
from ._making import concat, with_words
from ._tasks import PAIRS_PER_TASK
from .dataset import Dataset, _questions, _work, create
from .dataset import open as open_dataset
from .dataset._manifest import fingerprint
from ._shards import Sharded, edges_of, sums_of
from .errors import ArgumentError, UnsupportedError
from .graph import Graph
from .records import SweepRow
from .tables import Table

__all__ = ["capture", "extract", "extract_sharded", "heads", "sweep", "top"]


def extract(
    q: Any,
    k: Any = None,
    threshold: float = 0.05,
    *,
    folder: str | os.PathLike[str] | None = None,
    pairs_per_task: int = PAIRS_PER_TASK,
    form: Literal["npz", "safetensors"] = "npz",
    tables: bool = False,
    resume: bool = False,
    num_cpus: float = 1,
    num_gpus: float = 0,
    in_flight: int | None = None,
    retries: int = 3,
    **how: Any,
) -> Graph | Dataset:
    """Make the graph of `attngraph.extract` by the workers of a Ray cluster.

    The problem is cut by `attngraph.plan`. Q and K of a layer go into the object store once, when its first task
    begins, and each node that works on the layer fetches them once; they are let go after its last task. At most
    `in_flight` tasks are given out at a time, so a slow disk stops new work and memory stays bounded. Tasks of a worker
    or node that dies are done again.

    Parameters
    ----------
    q, k, threshold, **how
        As in `attngraph.extract`. Arrays travel in host memory.
    folder : path, optional
        Write a data set there, which all nodes must see under this name: workers write their parts, and nothing but a
        line for each comes back. Without it the whole graph is put together in this process.
    pairs_per_task, form, tables, resume
        As in `attngraph.dataset.extract`. A driver that was killed goes on with ``resume=True``.
    num_cpus, num_gpus : float
        Of a task; `num_cpus`, rounded down to at least 1, is the number of its threads.
    in_flight : int, optional
        Tasks given out at a time; twice as many as fit into the cluster unless given.
    retries : int
        How often a task is begun again after its worker died.

    Returns
    -------
    Graph, or Dataset with a folder
        Edges and rows are those of `attngraph.extract`, bit for bit, on nodes of one instruction set; sums over queries
        are added in the order of the tasks, which do not depend on the workers.

    Raises
    ------
    UnsupportedError
        When a worker has another version of attngraph; the message names both.
    """
    ray = _started()
    work = _work.prepare(q, k, threshold, pairs_per_task, how)
    writer, finished = None, {}
    if folder is not None:
        writer = create(
            os.path.abspath(_values.path(folder)), work.parameters(), parts=[task.name for task in work.tasks], form=form,
            tables=tables, resume=resume, tokens=work.tokens,
        )  # fmt: skip
        finished = writer.finished() if resume else {}
    todo = [task for task in work.tasks if ("0", task.name) not in finished]
    remote = ray.remote(_do_task).options(
        num_cpus=num_cpus, num_gpus=num_gpus, max_retries=_values.integer(retries, "retries", least=0)
    )
    last = {task.layer: task for task in todo}
    stored = {}  # of the layers that are being worked on

    def submit(task):
        if task.layer not in stored:
            stored[task.layer] = (*map(ray.put, work.layers[task.layer]), ray.put(work.how[task.layer]))
        refs = stored[task.layer]
        if task is last[task.layer]:
            del stored[task.layer]  # Ray keeps them until the tasks that take them are done
        return remote.remote(task, *refs, work.bfloat16, max(1, int(num_cpus)), writer, _own_version())

    answers = _each(ray, todo, submit, _room(ray, in_flight, num_cpus, num_gpus))
    if writer is None:
        graphs = dict(answers)
        if not graphs:  # no queries: nothing that a worker could do
            return extract_here(q, k, threshold, **how)
        whole = concat([graphs[place] for place in sorted(graphs)])
        return whole if work.tokens is None else with_words(whole, work.tokens)
    for _ in answers:
        pass
    writer.finish()
    return open_dataset(writer.folder)


def extract_sharded(
    q: Any,
    shards: Sequence[Any],
    threshold: float = 0.05,
    *,
    num_cpus: float = 1,
    num_gpus: float = 0,
    in_flight: int | None = None,
    **how: Any,
) -> Graph:
    """`attngraph.extract_sharded`, each shard of the keys by a worker: for K that fits into no node.

    Q goes into the object store once, a shard when its turn comes, once in each pass; one logsumexp for every row and
    shard comes back between the passes. The answer is that of `attngraph.extract_sharded`, bit for bit.
    """
    ray = _started()
    work = Sharded(q, shards, threshold, {**how, "threads": max(1, int(num_cpus))})
    room = _room(ray, in_flight, num_cpus, num_gpus)
    queries, bfloat16 = _work.as_numpy(q, "q")
    stored = ray.put(queries)

    def answers(call, question):
        remote = ray.remote(_ask_shard).options(num_cpus=num_cpus, num_gpus=num_gpus)

        def submit(n):
            _, k, own = call(n)
            own = {name: _work._sent(value, name) for name, value in own.items()}
            return remote.remote(stored, _work.as_numpy(k, "k")[0], own, bfloat16, question, _own_version())

        found = dict(_each(ray, range(len(work.begins)), submit, room))
        return [found[n] for n in range(len(work.begins))]

    work.merge(answers(work.first, sums_of))
    return work.graph(answers(work.second, edges_of))


def capture(
    make_model: Callable[[], Any],
    prompts: Iterable[Any],
    folder: str | os.PathLike[str],
    threshold: float = 0.05,
    *,
    name: str,
    run: Callable[[Any, Any], Any] | None = None,
    workers: int | None = None,
    num_cpus: float = 1,
    num_gpus: float = 0,
    form: Literal["npz", "safetensors"] = "npz",
    tables: bool = False,
    resume: bool = False,
    retries: int = 3,
    **how: Any,
) -> Dataset:
    """Run a model over many prompts, and write the graph of each as a document of a data set.

    Every worker holds a model of its own. Prompts are taken as workers become free, two for each, so that any iterable
    will do, ``ray.data`` rows too; a worker that dies is made again, and its prompt with it.

    Parameters
    ----------
    make_model : function
        Called once by every worker; gives the model, on the device where it is to run.
    prompts : iterable
        What the model is called with: a dict of arrays for ``model(**prompt)``. Number n is document n.
    folder : path
        Of the data set, which all nodes must see under this name.
    name : str
        Of the model, for the manifest: what a resumed run must agree on.
    run : function (model, prompt), optional
        In place of ``model(**prompt)``: to generate, say.
    workers : int, optional
        As many as fit into the cluster unless given.
    threshold, **how
        As in `attngraph.transformers.capture`.
    num_cpus, num_gpus, form, tables, resume, retries
        As in `extract`. Resumed, prompts whose documents are there are compared by their digest and not run.

    Returns
    -------
    Dataset
    """
    ray = _started()
    parameters = {"model": _values.text(name, "name"), "threshold": _values.number(threshold, "threshold")}
    parameters |= {key: _work._remembered(value) for key, value in how.items() if key not in ("threads", "tokenizer")}
    writer = create(os.path.abspath(_values.path(folder)), parameters, form=form, tables=tables, resume=resume)
    finished = writer.finished() if resume else {}
    workers = _fitting(ray, num_cpus, num_gpus) if workers is None else _values.positive(workers, "workers")
    actor = ray.remote(_Listener).options(
        num_cpus=num_cpus, num_gpus=num_gpus, max_restarts=-1, max_task_retries=_values.integer(retries, "retries", least=0)
    )
    listeners = []
    busy = dict.fromkeys(range(workers), 0)

    def todo():
        for n, prompt in enumerate(prompts):
            digest = _digest(prompt)
            entry = finished.get((str(n), "all"))
            if entry is None:
                yield n, prompt, digest
            elif entry.digest != digest:
                raise ArgumentError(f"prompt {n} is not the one that document {n} of {folder} was made from; write to another folder")

    def submit(item):
        idle = min(busy, key=busy.get)
        busy[idle] += 1
        if idle == len(listeners):  # no model is made before there is a prompt for it
            listeners.append(
                actor.remote(make_model, run, threshold, how, writer, max(1, int(num_cpus)), _own_version())
            )
        return idle, listeners[idle].write.remote(*item)

    try:
        for _ in _each(ray, todo(), submit, 2 * workers, busy):
            pass
    finally:
        for listener in listeners:
            ray.kill(listener)
    writer.finish()
    return open_dataset(writer.folder)


def sweep(dataset: Dataset, thresholds: Iterable[float], *, num_cpus: float = 1) -> list[SweepRow]:
    """`Dataset.sweep`, each head by a worker."""
    wanted = [_values.number(t, f"thresholds[{place}]") for place, t in enumerate(thresholds)]
    return _questions.together_sweep(_asked(dataset, _ask_sweep, num_cpus, wanted), wanted)


def top(dataset: Dataset, n: int, *, num_cpus: float = 1) -> Table:
    """`Dataset.top`, each head by a worker."""
    n = _values.integer(n, "n", least=0)
    return _questions.together_top(_asked(dataset, _ask_top, num_cpus, n), n, dataset._ranks())


def heads(dataset: Dataset, *, window: int = 16, num_cpus: float = 1) -> Table:
    """`Dataset.heads`, each head by a worker."""
    return _questions.together_heads(_asked(dataset, _ask_heads, num_cpus, window))


# ----------------------------------------------------------------------------------------------------------------------
# what workers do


def _do_task(task, q, k, how, bfloat16, threads, writer, version):
    _require_version(version)
    graph = _work.run(task, q, k, bfloat16, how, threads)
    if writer is None:
        return graph
    writer.write(graph, task.name)
    return None


def _ask_shard(q, k, how, bfloat16, question, version):
    _require_version(version)
    return question(*_work.as_given(q, k, bfloat16), how)


class _Listener:
    """An actor: a model, and what listens to it."""

    def __init__(self, make_model, run, threshold, how, writer, threads, version):
        from . import transformers

        self._model, self._writer, self._driver = make_model(), writer, version
        self._run = run or (lambda model, prompt: model(**prompt))
        self._listen = lambda: transformers.capture(self._model, threshold, **{"threads": threads, **how})

    def write(self, n, prompt, digest):
        import torch

        _require_version(self._driver)
        with torch.no_grad(), self._listen() as heard:
            self._run(self._model, prompt)
        self._writer.write(heard.graph, "all", doc=n, digest=digest)


def _ask_sweep(graph, doc, thresholds):
    return _questions.sweep_of(graph, thresholds)


def _ask_top(graph, doc, n):
    return _questions.top_of(graph, n, doc)


def _ask_heads(graph, doc, window):
    return _questions.heads_of(graph, window, doc)


def _ask(folder, unit, question, argument, version):
    _require_version(version)
    doc, layer, head = unit
    return question(open_dataset(folder).graph(layer, head, doc), doc, argument)


# ----------------------------------------------------------------------------------------------------------------------
# the driver


def _started():
    from ._optional import optional

    ray = optional("ray", "attngraph.ray")
    if not ray.is_initialized():
        ray.init(include_dashboard=False, log_to_driver=False)
    return ray


def _own_version():
    from . import _native

    return _native.version(), _native.abi_version()


def _require_version(driver):
    if tuple(driver) != _own_version():
        raise UnsupportedError(
            "the driver has attngraph {} (ABI {}), this worker {} (ABI {}); install one version on all nodes".format(
                *driver, *_own_version()
            )
        )


def _fitting(ray, num_cpus, num_gpus):
    """Tasks of that size that the cluster can run at once."""
    have = ray.cluster_resources()
    fits = [int(have.get(kind, 0) / wanted) for kind, wanted in (("CPU", num_cpus), ("GPU", num_gpus)) if wanted > 0]
    if fits and min(fits) < 1:
        raise ArgumentError(
            f"a task wants {num_cpus} CPU and {num_gpus} GPU; the cluster has {have.get('CPU', 0)} and {have.get('GPU', 0)}"
        )
    return min(fits, default=1)


def _room(ray, in_flight, num_cpus, num_gpus):
    fits = _fitting(ray, num_cpus, num_gpus)
    return 2 * fits if in_flight is None else _values.positive(in_flight, "in_flight")


def _each(ray, items, submit, room, busy=None):
    """(place, answer) of every item as they come, `room` of them given out at a time."""
    pending = {}

    def one():
        (ref,), _ = ray.wait(list(pending), num_returns=1)
        place, worker = pending.pop(ref)
        if worker is not None:
            busy[worker] -= 1
        return place, _got(ray, ref)

    for place, item in enumerate(items):
        while len(pending) >= room:
            yield one()
        given = submit(item)
        worker, ref = given if busy is not None else (None, given)
        pending[ref] = place, worker
    while pending:
        yield one()


def _got(ray, ref):
    """An answer; what the library raised in a worker as itself."""
    from .errors import Error

    try:
        return ray.get(ref)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, Error):
            raise error.cause from error
        raise


def _asked(dataset, question, num_cpus, argument):
    if not isinstance(dataset, Dataset):
        raise ArgumentError(f"dataset is {type(dataset).__name__}; it is a Dataset, as attngraph.open gives it")
    ray = _started()
    remote = ray.remote(_ask).options(num_cpus=num_cpus)

    def submit(unit):
        return remote.remote(os.path.abspath(dataset.folder), unit, question, argument, _own_version())

    answers = dict(_each(ray, dataset._units(), submit, _room(ray, None, num_cpus, 0)))
    return [answers[place] for place in sorted(answers)]


def _digest(prompt):
    """What tells one prompt from another."""
    if hasattr(prompt, "items"):
        found = {str(name): _digest(value) for name, value in prompt.items()}
        return fingerprint(_bytes_of(sorted(found.items())))["blake2b"]
    if hasattr(prompt, "shape"):
        return str(sorted(fingerprint(_work.as_numpy(prompt, "prompt")[0]).items()))
    return fingerprint(_bytes_of(prompt))["blake2b"]


def _bytes_of(value):
    import numpy as np

    return np.frombuffer(repr(value).encode("utf-8", "surrogatepass") or b"\0", np.uint8)
