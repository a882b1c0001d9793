# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from same import assert_identical, random_qk

import attngraph as ag


@pytest.mark.parametrize("how", [{}, {"causal": False, "window": 200}, {"query_range": (300, 1700), "heads": [0, 1, 5]}])
def test_tasks_joined_are_the_whole_bit_for_bit(how):
    q, k = random_qk(1, 6, 2, 2000)
    tasks = ag.plan(q, k, pairs_per_task=500_000, **how)
    assert len(tasks) > 2
    kept = {name: value for name, value in how.items() if name not in ("heads", "query_range")}
    parts = [ag.extract(q, k, threshold=0.02, **kept, **task.part) for task in tasks]
    assert_identical(ag.concat(parts), ag.extract(q, k, threshold=0.02, **how))


def test_a_plan_needs_shapes_only_and_counts_every_pair():
    n = 1 << 20
    tasks = ag.plan((80, 1, 64, n, 128), (80, 1, 8, n, 128), layers=[0, 79], pairs_per_task=1 << 40)
    assert {task.layer for task in tasks} == {0, 79} and len({task.name for task in tasks}) == len(tasks)
    assert sum(task.pairs for task in tasks) == 2 * 64 * n * (n + 1) // 2
    assert tasks[0].heads == tuple(range(8))
    assert ag.plan({3: ((4, 100, 8), (2, 100, 8))})[0][:4] == (3, (0, 1, 2, 3), 0, 100)
    assert ag.plan(np.zeros((2, 0, 8)), np.zeros((2, 5, 8))) == []


def test_what_no_plan_can_be_made_of_is_told():
    with pytest.raises(ag.errors.ShapeError, match="multiple"):
        ag.plan((3, 10, 8), (2, 10, 8))
    with pytest.raises(ag.errors.ArgumentError, match="pairs_per_task"):
        ag.plan((2, 10, 8), (2, 10, 8), pairs_per_task=0)
    with pytest.raises(ag.errors.LimitError, match="more than 4194304 tasks"):
        ag.plan((1, 2**31 - 1, 8), (1, 2**31 - 1, 8), pairs_per_task=1)
