# SPDX-License-Identifier: Apache-2.0
"""Work beside a model, with PyTorch's streams played: what is in order, what is bounded, what becomes of a failure."""

import contextlib
import threading
import types

import pytest

torch = pytest.importorskip("torch")
_beside = pytest.importorskip("attngraph._beside")


@pytest.fixture
def beside(monkeypatch):
    waited = []

    class Stream:
        def __init__(self, device):
            self.device = device

        def wait_event(self, event):
            waited.append(event.of)

    class Event:
        def record(self, stream):
            self.of = stream

    cuda = types.SimpleNamespace(
        Event=Event, Stream=Stream, current_stream=lambda device: f"the model's on {device}", stream=lambda stream: contextlib.nullcontext()
    )  # fmt: skip
    monkeypatch.setattr(torch, "cuda", cuda)
    made = _beside.Beside()
    made.waited = waited
    yield made
    made.end()


def test_work_is_done_in_order_after_what_the_model_queued(beside):
    done, model = [], threading.get_ident()
    for n in range(20):
        beside.do("cuda:0", lambda stream, n=n: done.append((n, stream.device, threading.get_ident() != model)))
    beside.wait()
    assert done == [(n, "cuda:0", True) for n in range(20)]
    assert beside.waited == ["the model's on cuda:0"] * 20


def test_only_so_many_queries_and_keys_are_held(beside):
    go, begun = threading.Event(), []
    for n in range(_beside._MOST):
        beside.do("cuda:0", lambda stream, n=n: (begun.append(n), go.wait()))
    waiter = threading.Thread(target=lambda: beside.do("cuda:0", lambda stream: begun.append("late")))
    waiter.start()
    waiter.join(0.2)
    assert waiter.is_alive() and begun == [0]
    go.set()
    waiter.join(10)
    beside.wait()
    assert begun == [*range(_beside._MOST), "late"]


def test_a_failure_is_raised_where_the_model_runs_and_ends_the_rest(beside):
    go, done = threading.Event(), []

    def fail(stream):
        go.wait()
        raise ValueError("no edges")

    beside.do("cuda:0", fail)
    beside.do("cuda:0", lambda stream: done.append(1))
    beside.do("cuda:0", lambda stream: done.append(2))
    go.set()
    with pytest.raises(ValueError, match="no edges"):
        beside.wait()
    beside.wait()  # told once
    assert len(done) < 2 or done == [1, 2]  # what had begun ends, nothing begins
    beside.do("cuda:0", lambda stream: done.append("again"))
    beside.wait()
    assert done[-1] == "again"


def test_an_end_waits_for_what_runs_and_leaves_no_thread(beside):
    done = []
    beside.do("cuda:0", lambda stream: done.append(1))
    beside.end()
    assert done in ([], [1]) and not any(t.name.startswith("attngraph") for t in threading.enumerate())
