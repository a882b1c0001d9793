# SPDX-License-Identifier: Apache-2.0
"""What the package promises of memory, of arrays that come and go, and of interpreters beside the main one."""

import gc
import subprocess
import sys
import threading

import numpy as np
import pytest

import attngraph as ag

RNG = np.random.default_rng(0)
SMALL = RNG.standard_normal((1, 8, 4)).astype(np.float32)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_ten_thousand_calls_do_not_grow_the_process():
    def resident():
        with open("/proc/self/statm", encoding="ascii") as facts:
            return int(facts.read().split()[1]) * 4096

    def rounds(count):
        for _ in range(count):
            graph = ag.extract(SMALL, SMALL, 0.1, threads=1)
            graph.csr(0)
            with pytest.raises(ag.Error):
                ag.extract(SMALL, SMALL, -1)

    rounds(500)
    before = resident()
    rounds(5000)
    gc.collect()
    assert resident() - before < 2 << 20


def test_arrays_outlive_the_graph_that_they_are_views_of():
    graph = ag.extract(SMALL, SMALL, 0.1)
    csr, rows = graph.csr(0), graph.rows(0)
    want = csr.indptr.copy(), csr.indices.copy(), csr.data.copy(), rows.logsumexp.copy()
    kept = csr.indptr, csr.indices, csr.data, rows.logsumexp
    del graph, csr, rows
    gc.collect()
    junk = [np.full(len(want[1]), 7, np.int32) for _ in range(200)]
    assert all(np.array_equal(a, b) for a, b in zip(want, kept, strict=True))
    del junk


def test_inputs_that_nobody_else_holds_live_as_long_as_the_call():
    first = RNG.standard_normal((2, 1500, 64)).astype(np.float32)
    second = first[:, ::-1].copy()
    want = ag.extract(first, second, 0.3, threads=1)
    held = [first, second]
    del first, second
    entered, scratch = threading.Event(), []

    def fill_what_was_freed():
        entered.wait()
        for _ in range(20):
            gc.collect()
            scratch.append(np.full((2, 1500, 64), np.nan, np.float32))

    thread = threading.Thread(target=fill_what_was_freed)
    thread.start()
    entered.set()
    graph = ag.extract(held.pop(0), held.pop(0), 0.3, threads=1)
    thread.join()
    assert not want.diff(graph)


# The native module alone is loaded: NumPy may refuse before it is asked.
INTERPRETERS = """
import numpy as np, attngraph as ag
try:
    import _interpreters as sub
except ImportError:
    import _xxsubinterpreters as sub
code = f'''
try:
    import importlib.util
    spec = importlib.util.spec_from_file_location("attngraph._native", {ag._native.__file__!r})
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    print("loaded")
except ImportError as error:
    print("refused:", error)
'''
q = np.ones((2, 4, 8), np.float32)
want = len(ag.extract(q, q))
for _ in range(2):
    other = sub.create()
    sub.run_string(other, code)
    sub.destroy(other)
assert len(ag.extract(q, q)) == want, "the first interpreter's types are its own"
print("goes on")
"""

def test_a_second_interpreter_is_refused_and_the_first_goes_on():
    pytest.importorskip("_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters")
    command = [sys.executable, "-W", "ignore", "-c", INTERPRETERS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] == "goes on" and len(lines) == 3, done.stdout
    assert all(line.startswith("refused:") and "main interpreter" in line for line in lines[:2]), done.stdout
