# SPDX-License-Identifier: Apache-2.0
"""What the capture from llama.cpp makes of attention nodes, shown to it by hand: no llama.cpp is needed.

The nodes are structs in this process, as llama.cpp's graph builder makes them; test_llama_cpp.py meets the real ones.
"""

import ctypes

import numpy as np
import pytest
from conftest import assert_same_edges, softmax_weights

import attngraph as ag
from attngraph import _ggml
from attngraph._attention_nodes import Listener
from attngraph._options import Options

OPERATIONS = {1: "MUL_MAT", 2: "SCALE", 3: "TANH", 4: "SOFT_MAX", 5: "FLASH_ATTN_EXT", 6: "ADD", 7: "RMS_NORM"}
TYPES = {0: "f32", 1: "f16", 2: "q4_0", 8: "q8_0", 30: "bf16"}


class FakeGgml(_ggml.Library):
    """ggml's functions over structs that tests make. Buffer 1 is the host; buffer 2 is a device, whose memory can only
    be copied."""

    def __init__(self):
        self._checked = False
        self.kept = {}
        self.copied = []
        self.lie = None

    def struct(self, at):
        return ctypes.cast(at, ctypes.POINTER(_ggml.TensorStruct)).contents

    def ggml_get_name(self, at):
        return b"another" if self.lie == "name" else self.struct(at).name

    def ggml_get_data(self, at):
        return self.struct(at).data

    def ggml_nelements(self, at):
        return int(np.prod(list(self.struct(at).ne))) + (self.lie == "elements")

    def ggml_nbytes(self, at):
        data = self.kept[at]
        return sum((n - 1) * s for n, s in zip(data.shape, data.strides)) + data.itemsize

    def ggml_op_desc(self, at):
        return OPERATIONS[self.struct(at).op].encode()

    def ggml_type_name(self, kind):
        return TYPES[kind].encode()

    def ggml_backend_buffer_is_host(self, buffer):
        return buffer == 1

    def ggml_backend_tensor_get(self, at, to, offset, size):
        self.copied.append(self.struct(at).name)
        ctypes.memmove(to, self.kept[at].ctypes.data + offset, size)

    def make(self, name, data=None, kind=0, operation=7, sources=(), parameters=(), buffer=1):
        """A tensor over an array [..., ne1, ne0] (its blocks for q8_0), whose strides it gets."""
        data = np.zeros((1, 1), np.float32) if data is None else data
        data = data.reshape((1,) * (4 - data.ndim) + data.shape)
        c = _ggml.TensorStruct(type=kind, op=operation, buffer=buffer, name=name.encode(), data=data.ctypes.data)
        c.ne[:] = [n * (32 if kind == 8 and d == 0 else 1) for d, n in enumerate(reversed(data.shape))]
        c.nb[:] = list(reversed(data.strides))
        for i, source in enumerate(sources):
            if source is not None:
                c.src[i] = ctypes.pointer(source)
        for i, value in enumerate(parameters):
            c.op_params[i] = value
        self.kept[ctypes.addressof(c)] = data
        self.kept[name, len(self.kept)] = c
        return c


NQ, NK, HQ, HKV, D = 6, 11, 4, 2, 32
OFFSET = NK - NQ


@pytest.fixture
def inputs():
    rng = np.random.default_rng(11)
    return rng.standard_normal((HQ, NQ, D)).astype(np.float32), rng.standard_normal((HKV, NK, D)).astype(np.float32)


def mask_of(window=None, padding=5, dtype=np.float16):
    """As llama.cpp pads it: more cells than keys, more rows than queries."""
    mask = np.full((NQ + 2, NK + padding), -np.inf, dtype)
    for i in range(NQ):
        position = OFFSET + i
        mask[i, (0 if window is None else max(0, position - window + 1)) : position + 1] = 0
    return mask


def stored(k, kind):
    """Keys in a cache of some type, with cells that are still empty, and what their values are."""
    padded = np.concatenate([k, np.full((HKV, 5, D), 7, np.float32)], axis=1)
    if kind == 1:
        return padded.astype(np.float16), k.astype(np.float16)
    if kind == 30:
        bits = _ggml.to_bfloat16(padded)
        return bits, (bits[:, :NK].astype(np.uint32) << 16).view(np.float32)
    if kind == 8:
        blocks = np.zeros((HKV, NK + 5, D // 32), _ggml._Q8_0_BLOCK)
        factor = np.abs(padded).reshape(HKV, NK + 5, 1, 32).max(-1) / 127
        blocks["d"] = factor
        blocks["q"] = np.rint(padded.reshape(HKV, NK + 5, 1, 32) / factor[..., None])
        return blocks, _ggml.from_q8_0(blocks)[:, :NK]
    return padded, k


def flash(ggml, q, keys, kind=1, mask=None, sinks=None, parameters=(0.2, 0.0, 0.0), buffer=1, names=("Qcur-3", "")):
    query = ggml.make(f"{names[0]} (view) (permuted)", q, buffer=buffer)
    key = ggml.make("cache_k_l3 (view) (permuted)", keys, kind=kind, buffer=buffer)
    masks = None if mask is None else ggml.make("attn_inp_kq_mask", mask, kind=1 if mask.dtype == np.float16 else 0)
    sink = None if sinks is None else ggml.make("blk.3.attn_sinks.weight", sinks.reshape(1, -1))
    return [ggml.make(names[1], operation=5, sources=(query, key, None, masks, sink), parameters=parameters)]


def unfused(ggml, q, keys, mask=None, sinks=None, between=(), scale=0.2, max_bias=0.0):
    query, key = ggml.make("Qcur-3 (permuted)", q), ggml.make("cache_k_l3 (view)", keys, kind=1)
    nodes = [ggml.make("kq-3", operation=1, sources=(key, query))]
    for operation, value in between:
        nodes.append(ggml.make("between", operation=operation, sources=(nodes[-1],), parameters=(value, 0.0)))
    masks = None if mask is None else ggml.make("attn_inp_kq_mask", mask)
    sink = None if sinks is None else ggml.make("sinks", sinks.reshape(1, -1))
    sources = (nodes[-1], masks, sink)
    return [*nodes, ggml.make("kq_soft_max-3", operation=4, sources=sources, parameters=(scale, max_bias))]


def listen(ggml, nodes, overwrite=None, **how):
    """Show nodes as llama.cpp does: asked first, computed, shown. overwrite: called after each node is shown."""
    listener = Listener(ggml, how.pop("layers", None), Options(**how))
    listener.begin(OFFSET, NQ)
    for node in nodes:
        if listener.saw(ctypes.addressof(node), True, None):
            listener.saw(ctypes.addressof(node), False, None)
        if overwrite:
            overwrite()
    listener.rethrow()
    return listener.end()


def check(graph, q, k, **how):
    weights = softmax_weights(q[None], k[None], **{"scale": 0.2, **how})
    assert_same_edges(graph, weights, 0.05, layer=3)


# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("buffer", [1, 2])
@pytest.mark.parametrize("kind", [0, 1, 8, 30])
def test_flash_attention_nodes(inputs, kind, buffer):
    q, k = inputs
    ggml = FakeGgml()
    keys, values = stored(k, kind)
    if kind == 1:
        q = q.astype(np.float16).astype(np.float32)
    graph = listen(ggml, flash(ggml, q, keys, kind, mask_of(), buffer=buffer))
    if kind in (8, 30):  # queries are brought to the type of the keys to be multiplied
        q = _ggml.through_q8_0(q) if kind == 8 else (_ggml.to_bfloat16(q).astype(np.uint32) << 16).view(np.float32)
    check(graph, q, values)
    assert bool(ggml.copied) == (buffer == 2)


def test_strides_of_permuted_tensors_are_kept(inputs):
    q, k = inputs
    apart_q = np.ascontiguousarray(q.astype(np.float16).astype(np.float32).transpose(1, 0, 2)).transpose(1, 0, 2)
    keys, values = stored(k, 1)
    apart_k = np.ascontiguousarray(keys.transpose(1, 0, 2)).transpose(1, 0, 2)  # the layout of the cache
    assert not apart_k.flags.c_contiguous
    ggml = FakeGgml()
    check(listen(ggml, flash(ggml, apart_q, apart_k, mask=mask_of())), apart_q, values)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_window_softcap_and_sinks(inputs, dtype):
    q, k = (x.astype(np.float16).astype(np.float32) for x in inputs)
    sinks = np.array([0.5, -1, 2, 0], np.float32)
    ggml = FakeGgml()
    nodes = flash(ggml, q, stored(k, 1)[0], mask=mask_of(4, dtype=dtype), sinks=sinks, parameters=(0.2, 0.0, 1.5))
    graph = listen(ggml, nodes)
    check(graph, q, k, window=4, softcap=1.5, sinks=sinks)
    assert graph.metadata["window"] == "4" and "mask" not in graph.metadata


def test_masks_of_other_shapes_are_taken_as_they_are(inputs):
    q, k = (x.astype(np.float16).astype(np.float32) for x in inputs)
    hole = mask_of()
    hole[2, 3] = -np.inf
    ggml = FakeGgml()
    check(listen(ggml, flash(ggml, q, stored(k, 1)[0], mask=hole)), q, k, mask=hole[None, None, :NQ, :NK] == 0)
    bias = mask_of()
    bias[4, 1] = 1.5
    ggml = FakeGgml()
    added = np.where(np.isinf(bias[:NQ, :NK]), -1e30, bias[:NQ, :NK].astype(np.float64))
    check(listen(ggml, flash(ggml, q, stored(k, 1)[0], mask=bias)), q, k, mask=added[None, None])


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("fused", [True, False])
def test_biases_by_distance_become_slopes(inputs, fused, exact):
    """llama.cpp writes the distance into the mask, below 0, and each head multiplies it with its slope (ALiBi)."""
    q, k = (x.astype(np.float16).astype(np.float32) for x in inputs)
    mask = mask_of(dtype=np.float16 if fused else np.float32)
    distance = np.arange(NK) - (OFFSET + np.arange(NQ))[:, None]
    mask[:NQ, :NK] += np.where(distance <= 0, distance, 0).astype(mask.dtype)
    if not exact:
        mask[4, 1] = -1.5  # no distance: what the mask says counts
    ggml = FakeGgml()
    keys = stored(k, 1)[0]
    if fused:
        graph = listen(ggml, flash(ggml, q, keys, mask=mask, parameters=(0.2, 8.0, 0.0)))
    else:
        graph = listen(ggml, unfused(ggml, q, keys, mask, max_bias=8.0))
    added = ag.alibi_slopes(HQ)[:, None, None] * np.where(np.isinf(mask[:NQ, :NK]), -1e30, mask[:NQ, :NK].astype(np.float64))
    check(graph, q, k, mask=added[None])
    assert ("alibi" in graph.metadata) == exact and graph.metadata["causal"] == ("true" if exact else "false")


def test_no_mask_means_every_key(inputs):
    q, k = (x.astype(np.float16).astype(np.float32) for x in inputs)
    ggml = FakeGgml()
    nodes = flash(ggml, q, stored(k, 1)[0][:, :NK])
    check(listen(ggml, nodes), q, k, causal=False)


SOFTCAP = [(2, 0.2 / 1.5), (3, 0.0), (2, 1.5)]


@pytest.mark.parametrize("between, scale, softcap", [((), 0.2, None), (SOFTCAP, 1.0, 1.5), ([(2, 0.5)], 0.4, None)])
def test_softmax_nodes(inputs, between, scale, softcap):
    """Without flash attention; the queries' memory is used again before the softmax is reached."""
    q, k = (x.astype(np.float16).astype(np.float32) for x in inputs)
    given = q.copy()
    ggml = FakeGgml()
    nodes = unfused(ggml, given, stored(k, 1)[0], mask_of(dtype=np.float32), between=between, scale=scale)
    graph = listen(ggml, nodes, overwrite=lambda: given.fill(np.nan))
    check(graph, q, k, softcap=softcap)


def test_layers_that_were_not_asked_for_are_not_cut_out(inputs):
    q, k = inputs
    ggml = FakeGgml()
    for nodes in (flash(ggml, q, stored(k, 1)[0]), unfused(ggml, q, stored(k, 1)[0])):
        listener = Listener(ggml, {5}, {})
        listener.begin(OFFSET, NQ)
        assert not any(listener.saw(ctypes.addressof(node), True, None) for node in nodes)
        listener.rethrow()
        with pytest.raises(ag.errors.NotFoundError, match=r"layers \[5\] have no attention; those that have are \[3\]"):
            listener.end()


@pytest.mark.parametrize("names", [("Qcur-3", ""), ("q", "__fattn__-3"), ("q", "fattn-3")])
def test_the_layer_is_found_by_name(inputs, names):
    ggml = FakeGgml()
    graph = listen(ggml, flash(ggml, inputs[0], stored(inputs[1], 1)[0], names=names))
    assert {s.layer for s in graph.slices} == {3}


def nameless(ggml, q, keys):
    return flash(ggml, q, keys, names=("q", "node_17"))


def with_positions(ggml, q, keys):
    return unfused(ggml, q, keys, between=[(6, 0.0)])


def quantised(ggml, q, keys):
    return flash(ggml, q, keys, kind=2)


def twice(ggml, q, keys):
    return flash(ggml, q, keys) + flash(ggml, q, keys)


def in_streams(ggml, q, keys):
    return flash(ggml, np.stack([q, q]), np.stack([keys, keys]))


def fewer_queries(ggml, q, keys):
    return flash(ggml, q[:, :2], keys)


def none(ggml, q, keys):
    return [ggml.make("norm-3")]


@pytest.mark.parametrize(
    ("nodes", "what"),
    [
        (nameless, "which layer"),
        (with_positions, "softmax of a ADD"),
        (quantised, 'q4_0.*cache_type="f16"'),
        (twice, "twice"),
        (in_streams, "2 streams"),
        (fewer_queries, "2 queries for 6 tokens"),
        (none, "no attention node"),
    ],
)
def test_what_edges_would_not_show_is_refused(inputs, nodes, what):
    ggml = FakeGgml()
    with pytest.raises(ag.errors.UnsupportedError, match=what):
        listen(ggml, nodes(ggml, inputs[0], stored(inputs[1], 1)[0]))


def test_errors_do_not_cross_the_callback(inputs, monkeypatch):
    """llama.cpp gets an answer, every later node is cut out and stopped at, and the error comes afterwards."""

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(Listener, "_attention", interrupted)
    ggml = FakeGgml()
    (node,) = flash(ggml, inputs[0], stored(inputs[1], 1)[0])
    listener = Listener(ggml, None, {})
    listener.begin(OFFSET, NQ)
    call = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_void_p, ctypes.c_bool, ctypes.c_void_p)(listener.saw)
    at = ctypes.addressof(node)
    assert [call(at, True, None), call(at, False, None), call(at, True, None), call(at, False, None)] == [
        True, False, True, False,
    ]  # fmt: skip
    with pytest.raises(KeyboardInterrupt):
        listener.rethrow()


@pytest.mark.parametrize("lie", ["name", "elements"])
def test_another_tensor_struct_is_noticed_at_the_first_node(inputs, lie):
    ggml = FakeGgml()
    ggml.lie = lie
    with pytest.raises(ag.errors.UnsupportedError, match="struct ggml_tensor"):
        listen(ggml, flash(ggml, inputs[0], stored(inputs[1], 1)[0]))


def test_the_mirror_has_the_size_of_the_struct():
    assert ctypes.sizeof(_ggml.TensorStruct) == 336
    assert (_ggml.TensorStruct.src.offset, _ggml.TensorStruct.data.offset, _ggml.TensorStruct.name.offset) == (
        152,
        248,
        256,
    )


def test_a_library_without_ggml_is_told():
    with pytest.raises(ag.errors.UnsupportedError, match="ggml_get_name"):
        _ggml.Library(ctypes.CDLL(None))


def test_bfloat16_rounds_to_nearest_even():
    values = np.array([1.0, 1 + 2**-8, 1 + 3 * 2**-8, np.inf, -0.0, np.nan], np.float32)
    assert _ggml.to_bfloat16(values).tolist() == [0x3F80, 0x3F80, 0x3F82, 0x7F80, 0x8000, 0x7FC0]


def test_the_package_that_is_missing_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "llama_cpp.llama_cpp", None)
    with pytest.raises(ag.errors.MissingPackageError, match="pip install llama-cpp-python"):
        ag.llama_cpp.capture("model.gguf", "text")
