# SPDX-License-Identifier: Apache-2.0
"""A problem into a data set, by this process."""

from __future__ import annotations

import os
from typing import Any, Literal

from .._tasks import PAIRS_PER_TASK
from . import _work
from ._read import Dataset, open
from ._write import create


def extract(
    folder: str | os.PathLike[str],
    q: Any,
    k: Any = None,
    threshold: float = 0.05,
    *,
    pairs_per_task: int = PAIRS_PER_TASK,
    form: Literal["npz", "safetensors"] = "npz",
    tables: bool = False,
    resume: bool = False,
    **how: Any,
) -> Dataset:
    """Make the graph of `attngraph.extract` as a data set: task after task, each a part that is written when it is done.

    Memory holds the input and one part. A run that was stopped, however, goes on with ``resume=True`` and does only what
    is missing; other inputs or parameters than those it was begun with are refused by name.

    Parameters
    ----------
    folder, form, tables, resume
        As in `create`.
    q, k, threshold, **how
        As in `attngraph.extract`.
    pairs_per_task : int
        As in `attngraph.plan`.

    Examples
    --------
    >>> import numpy as np, attngraph as ag, os, tempfile
    >>> rng = np.random.default_rng(0)
    >>> q, k = rng.standard_normal((2, 2, 1024, 64)).astype(np.float32)
    >>> folder = os.path.join(tempfile.mkdtemp(), "set")
    >>> ag.dataset.extract(folder, q, k, threshold=0.05, pairs_per_task=400_000)
    <attngraph.Dataset: 1 document, 4 parts, 1,110 edges, 5.2 % of the mass kept>
    """
    work = _work.prepare(q, k, threshold, pairs_per_task, how)
    writer = create(
        folder, work.parameters(), parts=[task.name for task in work.tasks], form=form, tables=tables, resume=resume,
        tokens=work.tokens,
    )  # fmt: skip
    finished = writer.finished() if resume else {}
    for task in work.tasks:
        if ("0", task.name) not in finished:
            queries, keys = work.layers[task.layer]
            graph = _work.run(task, queries, keys, work.bfloat16, work.how[task.layer], None)
            writer.write(graph, task.name)
    writer.finish()
    return open(writer.folder)
