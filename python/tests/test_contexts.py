# SPDX-License-Identifier: Apache-2.0
"""Contexts that are kept from call to call."""

import os
import threading

import numpy as np
import pytest

import attngraph as ag

_contexts = pytest.importorskip("attngraph._contexts")


def test_a_context_serves_one_call_at_a_time_and_the_next_one_after_it():
    with _contexts.on("cpu") as first:
        with _contexts.on("cpu") as second:
            assert first is not second
    with _contexts.on("cpu") as third:
        assert third is first or third is second


def test_a_call_that_fails_leaves_its_context_behind():
    with pytest.raises(ValueError, match="on purpose"):
        with _contexts.on("cpu") as context:
            raise ValueError("on purpose")
    with _contexts.on("cpu") as again:
        assert again is context


def test_release_memory_forgets_them_and_calls_go_on():
    q = np.random.default_rng(1).normal(size=(16, 8)).astype("f4")
    before = len(ag.extract(q, q, 0.1, device="cpu"))
    ag.release_memory()
    assert not _contexts._idle
    assert len(ag.extract(q, q, 0.1, device="cpu")) == before


def test_many_threads_share_them():
    q = np.random.default_rng(2).normal(size=(32, 8)).astype("f4")
    expected, found = len(ag.extract(q, q, 0.1)), []
    threads = [threading.Thread(target=lambda: found.extend(len(ag.extract(q, q, 0.1)) for _ in range(20))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 160
    assert len(_contexts._idle["auto"]) <= 9


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork()")
def test_a_child_does_not_wait_for_a_thread_that_it_has_not():
    _contexts._lock.acquire()
    try:
        child = os.fork()
        if child == 0:
            with _contexts.on("cpu"):
                os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    finally:
        _contexts._lock.release()
