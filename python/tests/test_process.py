# SPDX-License-Identifier: Apache-2.0
"""The package among threads, signals, processes and mistakes."""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import attngraph as ag

LONG = """
import sys, numpy as np, attngraph as ag
q = np.random.default_rng(0).standard_normal((64, 16384, 128)).astype(np.float32)
print("ready", flush=True)
ag.extract(q, q, 0.5, causal=False, threads=1)
print("not interrupted", flush=True)
"""


def test_other_threads_run_meanwhile():
    q = np.random.default_rng(0).standard_normal((4, 4096, 64)).astype(np.float32)
    beats, done = [], threading.Event()

    def beat():
        while not done.is_set():
            beats.append(time.perf_counter())
            time.sleep(0.001)

    thread = threading.Thread(target=beat)
    thread.start()
    begin = time.perf_counter()
    ag.extract(q, q, 0.5, threads=1)
    end = time.perf_counter()
    done.set()
    thread.join()
    during = [t for t in beats if begin < t < end]
    assert len(during) > 10 and end - begin > 0.03


def test_threads_extract_side_by_side():
    q = np.random.default_rng(1).standard_normal((2, 300, 16)).astype(np.float32)
    want, graphs = ag.extract(q, q), []
    threads = [threading.Thread(target=lambda: graphs.append(ag.extract(q, q))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(graphs) == 6 and not any(want.diff(g) for g in graphs)


def test_ctrl_c_interrupts_a_long_call():
    with subprocess.Popen([sys.executable, "-c", LONG], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as p:
        assert p.stdout.readline() == "ready\n"
        time.sleep(0.3)
        begin = time.perf_counter()
        p.send_signal(signal.SIGINT)
        out, error = p.communicate(timeout=60)
        assert time.perf_counter() - begin < 5
    assert out == "" and "KeyboardInterrupt" in error and p.returncode in (1, -signal.SIGINT)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_extracts():
    q = np.random.default_rng(2).standard_normal((2, 64, 16)).astype(np.float32)
    want = len(ag.extract(q, q))
    code = (
        "import os, numpy as np, attngraph as ag\n"
        "q = np.random.default_rng(2).standard_normal((2, 64, 16)).astype(np.float32)\n"
        "ag.extract(q, q)\n"
        "pid = os.fork()\n"
        "if pid == 0: os._exit(len(ag.extract(q, q)) % 251)\n"
        "raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == want % 251


Q = np.ones((2, 4, 8), np.float32)


@pytest.mark.parametrize(
    ("call", "kind", "builtin"),
    [
        (lambda: ag.extract(Q, Q, -1), ag.errors.ArgumentError, ValueError),
        (lambda: ag.extract(Q, Q, 0), ag.errors.ArgumentError, ValueError),
        (lambda: ag.extract(Q), ag.errors.ArgumentError, ValueError),
        (lambda: ag.extract(Q, Q, top_k=0), ag.errors.ArgumentError, ValueError),
        (lambda: ag.extract(Q, Q, layout="sbhd"), ag.errors.ArgumentError, ValueError),
        (lambda: ag.extract(Q, Q, stats="mean"), ag.errors.ArgumentError, ValueError),
        (lambda: ag.extract(Q, Q, layers=[0]), ag.errors.ArgumentError, ValueError),
        (lambda: ag.extract([Q], [Q], layers=[1]), ag.errors.ArgumentError, ValueError),
        (lambda: ag.extract(Q, Q, query_range=(2, 2)), ag.errors.ArgumentError, ValueError),
        (lambda: ag.extract(Q, Q, query_range=(0, 9)), ag.errors.ArgumentError, ValueError),
        (lambda: ag.extract(Q, Q, decision="slow"), ag.errors.ArgumentError, ValueError),
        (lambda: ag.extract(Q, Q[:, :, :4]), ag.errors.ShapeError, ValueError),
        (lambda: ag.extract([Q], {1: Q}), ag.errors.ShapeError, ValueError),
        (lambda: ag.extract(Q, Q.astype(np.float16)), ag.errors.DtypeError, TypeError),
        (lambda: ag.extract(Q.astype(int), Q.astype(int)), ag.errors.DtypeError, TypeError),
        (lambda: ag.extract(Q.astype(complex), Q), ag.errors.DtypeError, TypeError),
        (lambda: ag.extract(object(), Q), ag.errors.DtypeError, TypeError),
        (lambda: ag.extract(Q * np.nan, Q), ag.errors.NonfiniteError, ValueError),
        (lambda: ag.extract(Q, Q, max_edges=1), ag.errors.LimitError, ValueError),
        (lambda: ag.extract(Q, Q, device="cuda:0"), ag.errors.NoDeviceError, RuntimeError),
        (lambda: ag.extract(Q, Q, backend="abacus"), ag.Error, Exception),
        (lambda: ag.from_matrix(np.ma.masked_array(np.eye(2))), ag.errors.DtypeError, TypeError),
        (lambda: ag.from_matrix([[1, 2], [3]]), ag.errors.ShapeError, ValueError),
        (lambda: ag.from_matrix(np.eye(2), mask=np.eye(2)), ag.errors.UnsupportedError, ValueError),
        (lambda: ag.from_matrix(np.eye(2)).csr(1), ag.errors.NotFoundError, LookupError),
        (lambda: ag.load("/no/such/file.npz"), ag.errors.NotFoundError, OSError),
        (lambda: ag.load(__file__), ag.errors.FormatError, ValueError),
    ],
)
def test_errors_are_typed(call, kind, builtin):
    with pytest.raises(kind) as caught:
        call()
    assert isinstance(caught.value, (ag.Error,)) and isinstance(caught.value, builtin)
    assert str(caught.value) and caught.value.status.startswith("ATTNGRAPH_ERROR_")


def test_every_status_has_its_type():
    kinds = ag.errors._BY_STATUS[1:]
    assert len({kind.status for kind in kinds}) == len(kinds) == 20
    assert ag.errors.NoSpaceError.status == "ATTNGRAPH_ERROR_NO_SPACE"


def test_skipped_values_are_counted():
    q = np.random.default_rng(3).standard_normal((1, 10, 8)).astype(np.float32)
    q[0, 4, 2] = np.nan
    g = ag.extract(q, np.ones_like(q), nonfinite="skip")
    assert g.report.skipped_nonfinite == 1 and g.csr().indptr[4] == g.csr().indptr[5]
