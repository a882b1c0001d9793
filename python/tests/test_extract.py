# SPDX-License-Identifier: Apache-2.0
import ctypes

import numpy as np
import pytest
from conftest import assert_same_edges, edge_dict, softmax_weights

import attngraph as ag


def random_qk(seed, q_shape, k_shape, spread=1.5, dtype=np.float32):
    rng = np.random.default_rng(seed)
    q, k = (spread * rng.standard_normal(shape) for shape in (q_shape, k_shape))
    return q.astype(dtype), k.astype(dtype)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("causal", [True, False])
def test_edges_are_those_of_the_softmax(dtype, causal):
    q, k = random_qk(1, (2, 3, 40, 16), (2, 3, 40, 16), dtype=dtype)
    g = ag.extract(q, k, threshold=0.05, causal=causal)
    assert_same_edges(g, softmax_weights(q, k, causal=causal), 0.05)


def test_grouped_queries_read_their_key_head():
    q, k = random_qk(2, (1, 6, 30, 8), (1, 2, 30, 8))
    assert_same_edges(ag.extract(q, k), softmax_weights(q, k), 0.05)


def test_fewer_queries_than_keys_stand_at_the_end_unless_an_offset_says_otherwise():
    q, k = random_qk(3, (1, 1, 5, 8), (1, 1, 20, 8))
    assert_same_edges(ag.extract(q, k), softmax_weights(q, k), 0.05)
    first = ag.extract(q, k, query_offset=0)
    assert all(key <= query for (_, _, _, query, key) in edge_dict(first))


@pytest.mark.parametrize(
    "options",
    [
        {"scale": 0.3},
        {"window": 7},
        {"softcap": 2.0},
        {"mask": np.random.default_rng(9).random((1, 1, 24, 24)) > 0.3},
        {"mask": np.random.default_rng(9).standard_normal((24, 24))},
        {"sinks": np.array([0.5, -1.0, 2.0])},
    ],
    ids=lambda o: next(iter(o)),
)
def test_every_rule_of_the_scores(options):
    q, k = random_qk(4, (2, 3, 24, 8), (2, 3, 24, 8))
    assert_same_edges(ag.extract(q, k, **options), softmax_weights(q, k, **options), 0.05)


def test_a_known_logsumexp_gives_the_same_edges_in_either_base():
    q, k = random_qk(5, (1, 2, 50, 8), (1, 2, 50, 8))
    g = ag.extract(q, k)
    lse = np.stack([g.rows(0, head).logsumexp for head in range(2)])[None]
    assert not g.diff(ag.extract(q, k, lse=lse))
    assert not g.diff(ag.extract(q, k, lse=lse / np.log(2), lse_base="2"))


def test_top_k_and_mass():
    q, k = random_qk(6, (1, 1, 30, 8), (1, 1, 30, 8))
    weights = softmax_weights(q, k)[0, 0]
    top = ag.extract(q, k, threshold=0, top_k=2)
    indptr, indices, _ = top.csr()
    for i in range(1, 30):
        assert set(indices[indptr[i] : indptr[i + 1]]) == set(np.argsort(-weights[i])[:2])
    assert ag.extract(q, k, threshold=0, mass=0.9).coverage()[0].minimum >= 0.9 - 1e-6


def test_any_strides_are_read_in_place():
    base, _ = random_qk(7, (2, 20, 4, 16), (1,))
    q = base[:, ::-1, :, ::2].transpose(0, 2, 1, 3)  # negative and doubled strides
    k = np.broadcast_to(base[:1, :, :1, ::2].transpose(0, 2, 1, 3), (2, 4, 20, 8))  # strides of 0
    view = ag._inputs.tensor(q, "q")
    assert view.address == q.__array_interface__["data"][0] and view.strides == (1280, 16, -64, 2)
    assert_same_edges(ag.extract(q, k), softmax_weights(q, k), 0.05)
    read_only = q.copy()
    read_only.flags.writeable = False
    assert ag._inputs.tensor(read_only, "q").address == read_only.ctypes.data


def test_foreign_byte_order_and_record_fields_are_copied_right():
    q, k = random_qk(8, (1, 1, 12, 8), (1, 1, 12, 8))
    want = ag.extract(q, k)
    assert not want.diff(ag.extract(q.astype(">f4"), k.astype(">f4")))
    records = np.zeros((1, 1, 12, 8), dtype=[("a", "u1"), ("x", "f4")])
    records["x"] = q
    assert not want.diff(ag.extract(records["x"], k))


def test_bfloat16_of_ml_dtypes():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    q, k = (x.astype(ml_dtypes.bfloat16) for x in random_qk(9, (1, 2, 30, 8), (1, 2, 30, 8)))
    assert_same_edges(ag.extract(q, k), softmax_weights(q.astype(np.float32), k.astype(np.float32)), 0.05)


def test_products_in_float():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    q, k = (x.astype(ml_dtypes.bfloat16) for x in random_qk(9, (1, 2, 30, 8), (1, 2, 30, 8)))
    in_float = ag.extract(q, k, products="float")
    assert not in_float.diff(ag.extract(q, k))
    assert in_float.report.target not in ("AVX512_BF16", "AMX")
    with pytest.raises(ag.errors.ArgumentError, match="products is 'double'"):
        ag.extract(q, k, products="double")


def test_torch_tensors_of_every_type_and_with_gradients():
    torch = pytest.importorskip("torch")
    q, k = random_qk(10, (1, 2, 30, 8), (1, 2, 30, 8))
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        tq, tk = (torch.from_numpy(x).to(dtype) for x in (q, k))
        assert ag._inputs.tensor(tq, "q").address == tq.data_ptr()
        g = ag.extract(tq.requires_grad_(), tk)
        assert_same_edges(g, softmax_weights(tq.detach().double().numpy(), tk.double().numpy()), 0.05)


def test_arrays_of_jax():
    jax = pytest.importorskip("jax")
    rng = np.random.default_rng(4)
    q, k = (rng.standard_normal((2, 3, 20, 16)).astype(np.float32) for _ in range(2))
    assert not ag.extract(jax.numpy.asarray(q), jax.numpy.asarray(k)).diff(ag.extract(q, k))
    half = [jax.numpy.asarray(x, jax.numpy.bfloat16) for x in (q, k)]
    wide = [np.asarray(x.astype(jax.numpy.float32)) for x in half]
    assert not ag.extract(*half).diff(ag.extract(*wide), band=1e-5)


class OnDevice:
    """What an array on a CUDA device shows: DLPack alone, with the device's number in its capsule."""

    def __init__(self, array):
        self.array = array

    def __dlpack_device__(self):
        return 2, 0

    def __dlpack__(self, *, stream=-1, **_):
        assert stream == 1  # the legacy default stream, on which the library waits
        capsule = self.array.__dlpack__()
        pointer = ctypes.pythonapi.PyCapsule_GetPointer
        pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
        ctypes.c_int32.from_address(pointer(capsule, b"dltensor") + 8).value = 2
        return capsule


def test_arrays_on_a_device_are_never_taken_for_the_hosts():
    q, k = random_qk(12, (1, 2, 30, 8), (1, 2, 30, 8))
    for call in (
        lambda: ag.extract(OnDevice(q), OnDevice(k), device="cpu"),
        lambda: ag.extract({0: (OnDevice(q), k)}, device="cpu"),
        lambda: ag.from_matrix(OnDevice(q[0, :, :, :4]), device="cpu"),
    ):
        with pytest.raises(ag.errors.UnsupportedError, match="memory of CUDA device 0; backend 'cpu' reads host memory"):
            call()


def test_layout_bshd_is_the_same_graph():
    q, k = random_qk(11, (2, 4, 20, 8), (2, 2, 20, 8))
    swapped = (np.ascontiguousarray(x.swapaxes(1, 2)) for x in (q, k))
    assert not ag.extract(q, k).diff(ag.extract(*swapped, layout="bshd"))


def test_heads_layers_and_query_ranges_are_parts_of_the_whole():
    q, k = random_qk(12, (1, 4, 25, 8), (1, 2, 25, 8))
    whole = ag.extract(q, k, layer=7)
    assert {s.layer for s in whole.slices} == {7}
    assert not whole.filter(heads=[1, 3]).diff(ag.extract(q, k, layer=7, heads=[3, 1]))
    parts = [ag.extract(q, k, layer=7, query_range=r) for r in [(10, 25), (0, 10)]]
    assert not whole.diff(ag.concat(parts))


def test_many_layers_come_as_lists_dicts_or_one_array():
    q, k = random_qk(13, (3, 1, 2, 20, 8), (3, 1, 2, 20, 8))
    want = ag.concat(ag.extract(q[n], k[n], layer=n) for n in range(3))
    windows = [4, None, 9]
    for args in [(list(q), list(k)), (q, k), ({n: (q[n], k[n]) for n in range(3)},), (dict(enumerate(q)), list(k))]:
        assert not want.diff(ag.extract(*args))
        assert not want.filter(layers=[0, 2]).diff(ag.extract(*args, layers=[0, 2]))
        mixed = ag.extract(*args, window=windows)
        for n in range(3):
            assert not mixed.filter(layers=n).diff(ag.extract(q[n], k[n], layer=n, window=windows[n]))


def test_counts_of_the_real_sample(genesis):
    tensors, facts = genesis
    for layer, counts in {5: (113_622, 47_667, 20_784, 883), 12: (92_192, 28_836, 16_550, 4_322)}.items():
        q, k = tensors[f"q.{layer}"], tensors[f"k.{layer}"]
        for threshold, count in zip((0.01, 0.05, 0.1, 0.5), counts):
            g = ag.extract(q, k, threshold, scale=float(facts["scale"]))
            assert abs(len(g) - count) <= g.report.borderline


def test_weights_of_the_model_itself(genesis_weights):
    tensors, _ = genesis_weights
    g = ag.extract(tensors["q.12"], tensors["k.12"], 0.05)
    assert_same_edges(g, tensors["softmax.12"][None].astype(np.float64), 0.05)


def test_row_and_column_statistics():
    q, k = random_qk(14, (1, 1, 30, 8), (1, 1, 30, 8))
    g = ag.extract(q, k, stats=("entropy", "columns", "distances"))
    weights = softmax_weights(q, k)[0, 0]
    np.testing.assert_allclose(g.columns().received, weights.sum(0), rtol=1e-5)
    logs = np.log(weights, where=weights > 0, out=np.zeros_like(weights))
    np.testing.assert_allclose(g.rows().entropy, -(weights * logs).sum(1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(g.rows().kept_mass, np.where(weights >= 0.05, weights, 0).sum(1), rtol=1e-4)
    _, distances, begin = g.columns()
    for distance in (0, 1, 13):
        assert distances[distance - begin] == pytest.approx(np.trace(weights, -distance), rel=1e-5)
    assert distances.sum() == pytest.approx(30) and distances[: max(-begin, 0)].sum() < 1e-30
