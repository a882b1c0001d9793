# SPDX-License-Identifier: Apache-2.0
"""Arrays in device memory, and graphs that stay there: on the emulated CUDA plugin, whose memory ctypes can look into.

ATTNGRAPH_EMULATED names the folder of a build that has it; unless set, build/release. The plugin is chosen when the
library first looks for one, so that each test is a process of its own.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("ATTNGRAPH_EMULATED", Path(__file__).resolve().parents[2] / "build/release"))
PLUGIN, RUNTIME = FOLDER / "libattngraph_cuda_emulated.so", FOLDER / "libattngraph_emulation.so"

pytestmark = pytest.mark.skipif(not PLUGIN.exists(), reason="there is no build of the emulated CUDA plugin")

# What every test begins with: arrays in device memory with __dlpack__, and a reader of capsules.
PREAMBLE = """
import atexit, ctypes, sys
import numpy as np, attngraph as ag

cuda = ctypes.CDLL(sys.argv[1], mode=ctypes.RTLD_GLOBAL)
TO_DEVICE, TO_HOST = 1, 2

class Device(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int32), ("id", ctypes.c_int32)]

class Type(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16)]

class Tensor(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("device", Device), ("ndim", ctypes.c_int32), ("dtype", Type),
                ("shape", ctypes.POINTER(ctypes.c_int64)), ("strides", ctypes.POINTER(ctypes.c_int64)),
                ("byte_offset", ctypes.c_uint64)]

class Managed(ctypes.Structure):
    _fields_ = [("tensor", Tensor), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p)]

new, pointer = ctypes.pythonapi.PyCapsule_New, ctypes.pythonapi.PyCapsule_GetPointer
new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]

class OnDevice:
    def __init__(self, array):
        self.at, array = ctypes.c_void_p(), np.ascontiguousarray(array, np.float32)
        assert cuda.cudaMalloc(ctypes.byref(self.at), ctypes.c_size_t(array.nbytes)) == 0
        assert cuda.cudaMemcpy(self.at, ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes), TO_DEVICE) == 0
        self.sizes = (ctypes.c_int64 * array.ndim)(*array.shape)
        self.managed = Managed(Tensor(self.at, Device(2, 0), array.ndim, Type(2, 32, 1), self.sizes, None, 0), None, None)
    def __dlpack_device__(self):
        return 2, 0
    def __dlpack__(self, **how):
        return new(ctypes.addressof(self.managed), b"dltensor", None)

def read(array, stream=None):
    capsule = array.__dlpack__(stream=stream)
    t = Managed.from_address(pointer(capsule, b"dltensor")).tensor
    assert (t.device.type, t.device.id, t.ndim) == (2, 0, 1) and array.__dlpack_device__() == (2, 0)
    kind = {(0, 64): np.int64, (0, 32): np.int32, (2, 32): np.float32}[t.dtype.code, t.dtype.bits]
    host = np.empty(t.shape[0], kind)
    assert cuda.cudaMemcpy(ctypes.c_void_p(host.ctypes.data), ctypes.c_void_p(t.data), ctypes.c_size_t(host.nbytes), TO_HOST) == 0
    return host

rng = np.random.default_rng(5)
q, k = (2 * rng.standard_normal((2, heads, 60, 16)).astype(np.float32) for heads in (4, 2))
d_q, d_k = OnDevice(q), OnDevice(k)
atexit.register(lambda: [cuda.cudaFree(array.at) for array in (d_q, d_k)])  # the emulator counts what is left
"""


def run(text, **environment):
    environment = {**os.environ, "ATTNGRAPH_CUDA_PLUGIN": str(PLUGIN), "OPENBLAS_NUM_THREADS": "1", **environment}
    done = subprocess.run(
        [sys.executable, "-c", PREAMBLE + text, str(RUNTIME)], capture_output=True, text=True, env=environment, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_arrays_on_a_device_are_read_in_place():
    run(
        """
here, there = ag.extract(q, k, 0.05, backend="cuda_streaming"), ag.extract(d_q, d_k, 0.05)
assert there.report.backend == "cuda_streaming"
for name in ("batch", "head", "query", "key", "weight"):
    assert np.array_equal(here.edges[name], there.edges[name])
try:
    ag.extract(d_q, d_k, 0.05, backend="cpu")
except ag.errors.UnsupportedError as told:
    assert "q is in the memory of CUDA device 0" in str(told)
else:
    raise AssertionError
"""
    )


def test_graphs_may_stay_on_the_device():
    run(
        """
host = ag.extract(q, k, 0.05, backend="cuda_streaming", tokens=[str(n) for n in range(60)])
for inputs in ((d_q, d_k), (q, k)):
    graph = ag.extract(*inputs, 0.05, out="device", backend="cuda_streaming", tokens=[str(n) for n in range(60)])
    assert (graph.slice_count, graph.queries, graph.keys, graph.shape, graph.device) == (8, 60, 60, (480, 60), 0)
    assert np.array_equal(read(graph.indices), host.edges["key"]) and np.array_equal(read(graph.data), host.edges["weight"])
    rows = np.repeat(np.arange(480), np.diff(read(graph.indptr)))
    assert np.array_equal(rows % 60, host.edges["query"]) and np.array_equal(rows // 60 % 4, host.edges["head"])
    copy = graph.to_host()
    assert copy.tokens == host.tokens and copy.report == host.report
    assert np.array_equal(copy.edges["weight"], host.edges["weight"])
for how in ({"top_k": 3}, {"mass": 0.5, "threshold": 0}):
    graph = ag.extract(d_q, d_k, **{"threshold": 0.001, **how, "out": "device"})
    assert np.array_equal(read(graph.indices), ag.extract(q, k, **{"threshold": 0.001, **how}, backend="cuda_streaming").edges["key"])
"""
    )


def test_the_readers_stream_is_respected():
    # Work waits until somebody waits for it: what is read too early is not there yet.
    run(
        """
made_on, reader = ctypes.c_void_p(), ctypes.c_void_p()
for stream in (made_on, reader):
    assert cuda.cudaStreamCreateWithFlags(ctypes.byref(stream), 1) == 0
host = ag.extract(q, k, 0.05, backend="cuda_streaming").edges["key"]
class Stream:
    cuda_stream = made_on.value
graph = ag.extract(d_q, d_k, 0.05, out="device", stream=Stream())
keys = np.full(graph.edge_count, -1, np.int32)
def copy_on(stream, at):
    assert cuda.cudaMemcpyAsync(ctypes.c_void_p(keys.ctypes.data), at, ctypes.c_size_t(keys.nbytes), TO_HOST, stream) == 0
    assert cuda.cudaStreamSynchronize(stream) == 0
capsule = graph.indices.__dlpack__(stream=reader.value)
copy_on(reader, ctypes.c_void_p(Managed.from_address(pointer(capsule, b"dltensor")).tensor.data))
assert np.array_equal(keys, host)
graph.wait(reader.value), graph.wait(), graph.wait(1)
for wrong in (0, -2, 1.5):
    try:
        graph.data.__dlpack__(stream=wrong) if wrong == 0 else graph.wait(wrong)
    except ag.errors.ArgumentError:
        continue
    raise AssertionError(wrong)
graph.data.__dlpack__(stream=-1)
""",
        ATTNGRAPH_EMU_DEFER="1",
    )


def test_arrays_outlive_their_graph():
    run(
        """
import gc
graph = ag.extract(d_q, d_k, 0.05, out="device")
host, data = graph.to_host().edges["weight"], graph.data
del graph
gc.collect()
assert np.array_equal(read(data), host)
"""
    )


def test_what_cannot_stay_is_told():
    run(
        """
for text, call in {
    "one layer": lambda: ag.extract({0: (q, k), 1: (q, k)}, threshold=0.05, out="device"),
    "'device'": lambda: ag.extract(q, k, 0.05, out="disk"),
    "keeps its results in host memory": lambda: ag.extract(q, k, 0.05, out="device", backend="cpu"),
    "budget": lambda: ag.extract(q, k, 0.05, out="device", backend="cuda_streaming", budget=9),
    "certified": lambda: ag.extract(q, k, 0.05, out="device", backend="cuda_streaming", decision="certified"),
}.items():
    try:
        call()
    except ag.Error as told:
        assert text in str(told), told
    else:
        raise AssertionError(text)
"""
    )
