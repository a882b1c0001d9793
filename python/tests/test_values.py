# SPDX-License-Identifier: Apache-2.0
"""Numbers, choices and lists of any library; messages name what is none of them."""

import numpy as np
import pytest

import attngraph as ag

RNG = np.random.default_rng(0)
WEIGHTS = RNG.dirichlet(np.ones(5) * 0.4, size=(4, 3, 5))  # [L, H, S, S]
Q = RNG.standard_normal((4, 6, 8)).astype(np.float32)


def collections(values):
    """The same list of integers as collections of many kinds."""
    yield from (values, tuple(values), iter(values), {*values}, np.array(values), np.array(values, np.uint8))
    yield [np.int64(n) for n in values]
    yield np.array(values, np.float64)
    for name, make in (
        ("torch", lambda torch: torch.tensor(values)),
        ("torch", lambda torch: [torch.tensor(n) for n in values]),
        ("pandas", lambda pandas: pandas.Series(values, index=[7] * len(values))),
        ("pandas", lambda pandas: pandas.Index(values)),
        ("pyarrow", lambda pyarrow: pyarrow.array(values)),
        ("polars", lambda polars: polars.Series(values)),
        ("jax.numpy", lambda jax: jax.array(values)),
    ):
        try:
            yield make(__import__(name, fromlist=["x"]))
        except ImportError:
            pass


def test_heads_and_layers_are_collections_of_any_library():
    for chosen in collections([2, 0]):
        assert {s.head for s in ag.from_matrix(WEIGHTS, heads=chosen).slices} == {0, 2}
    for chosen in collections([3, 0]):
        assert {s.layer for s in ag.from_matrix(WEIGHTS, layers=chosen).slices} == {0, 3}
    for chosen in collections([1, 2]):
        assert {s.head for s in ag.extract(Q, Q, heads=chosen).slices} == {1, 2}
    for one in (2, np.int32(2), np.array(2)):
        assert {s.head for s in ag.from_matrix(WEIGHTS, heads=one).slices} == {2}
        assert {s.layer for s in ag.from_matrix(WEIGHTS).filter(layers=one).slices} == {2}


def test_a_mask_chooses_where_it_is_true():
    for mask in ([True, False, True], np.array([True, False, True]), [np.True_, np.False_, np.True_]):
        assert {s.head for s in ag.from_matrix(WEIGHTS, heads=mask).slices} == {0, 2}
        assert {s.head for s in ag.from_matrix(WEIGHTS).filter(heads=mask).slices} == {0, 2}
    assert {s.layer for s in ag.from_matrix(WEIGHTS, layers=np.arange(4) > 1).slices} == {2, 3}
    assert {s.layer for s in ag.from_matrix({3: WEIGHTS[0], 8: WEIGHTS[1]}, layers=[False, True]).slices} == {8}
    assert {s.head for s in ag.extract(Q, Q, heads=np.array([False, True, False, False])).slices} == {1}
    for mask, text in (([True, False], "2 values; there are 3 heads"), (np.zeros(3, bool), "chooses nothing")):
        with pytest.raises(ag.errors.ArgumentError, match=text):
            ag.from_matrix(WEIGHTS, heads=mask)


def test_one_list_of_heads_per_layer():
    graph = ag.from_matrix(WEIGHTS, heads=[np.array([0]), None, [1, 2], np.array([False, False, True])])
    assert [(s.layer, s.head) for s in graph.slices] == [(0, 0), (1, 0), (1, 1), (1, 2), (2, 1), (2, 2), (3, 2)]


def test_scalars_of_any_library():
    want = ag.extract(Q, Q, 0.25, scale=0.5, window=3, top_k=2)
    for kind in (np.float32, np.float64, np.array):
        same = ag.extract(Q, Q, kind(0.25), scale=kind(0.5), window=np.int64(3), top_k=np.array(2), layer=np.int8(0))
        assert not want.diff(same)
    assert want.top(np.int64(1)) == want.top(1)


def test_messages_name_the_value():
    for how, text in (
        ({"threshold": None}, "threshold is None; it is a number"),
        ({"heads": "all"}, "heads is 'all'; it is a sequence or array of integers"),
        ({"heads": [0, 1.5]}, r"heads\[1\] is 1.5; it is an integer"),
        ({"heads": np.eye(2, dtype=int)}, r"heads is an array of shape \[2, 2\]"),
        ({"window": (3, 0)}, r"window is \(3, 0\); it is an integer, at least 1, or None"),
        ({"tokens": 5}, "tokens is int; it must be a list"),
        ({"tokens": {"a": 0}}, "tokens is dict; it must be a list"),
        ({"tokens": {"a"}}, "tokens is set; it must be a list"),
        ({"causal": "no"}, "causal is 'no'; it is True or False"),
        ({"causal": None}, "causal is None; it is True or False"),
        ({"threshold": True}, "threshold is True; it is a number"),
        ({"layout": "xy"}, "layout is 'xy'; it is 'lhqk' or 'bhqk'"),
    ):
        with pytest.raises(ag.errors.ArgumentError, match=text):
            ag.from_matrix(WEIGHTS[0], **how)


def test_lone_surrogates_are_bytes_or_the_replacement_character():
    half, byte = "\ud83d", b"\xf0\x9f".decode("utf-8", "surrogateescape")
    graph = ag.from_matrix(np.eye(4), tokens=["?", half, byte, half + "x"])
    assert graph.tokens == ["?", "\ufffd", byte, "\ufffdx"]


def test_key_lengths_are_one_for_each_sequence():
    pair = np.stack([Q, Q])
    assert ag.extract(pair, pair, key_lengths=np.array([2, 5])).slices[0].batch == 0
    for call in (ag.extract, ag.plan, lambda q, k, **how: ag.Session().append(k).rows(q, **how)):
        for lengths in ([], [2], [2, 2, 2]):
            with pytest.raises(ag.errors.ShapeError, match=f"key_lengths has {len(lengths)} entries; there are 2 sequences"):
                call(pair, pair, key_lengths=lengths)
    with pytest.raises(ag.errors.ShapeError, match="key_lengths has 2 entries; there are 1 sequences"):
        ag.from_matrix(WEIGHTS[0], key_lengths=[2, 2])


def test_none_in_ids_is_no_token():
    words = [[None, 0, 0, 1, 1, None]]
    share = [
        ag.extract(Q, Q, stats="heads", token_ids=range(6), word_ids=ids).heads()["same_word_share"].tolist()
        for ids in (words, words[0], [-1, 0, 0, 1, 1, -1])
    ]
    assert share[0] == share[1] == share[2]


def test_arrays_that_are_none_are_called_by_what_they_are():
    torch, sparse = pytest.importorskip("torch"), pytest.importorskip("scipy.sparse")
    matrix = torch.tensor(WEIGHTS[0, 0])
    for array, text in (
        (matrix.to_sparse(), r"attn is a sparse Tensor, .* give attn.to_dense\(\)"),
        (matrix.to_sparse_csr(), "sparse Tensor"),
        (sparse.csr_array(WEIGHTS[0, 0]), r"attn is a sparse csr_array, .* give attn.toarray\(\)"),
        (matrix.to("meta"), "attn is on the device 'meta'"),
        (np.eye(2, dtype=np.longdouble), "attn is an array of"),
    ):
        with pytest.raises(ag.errors.DtypeError, match=text):
            ag.from_matrix(array)
    ones = matrix > 0.3
    assert not ag.from_matrix(ones).diff(ag.from_matrix(ones.numpy())) and len(ag.from_matrix(ones.int()))
    assert not ag.extract(Q, Q, device=torch.device("cpu")).diff(ag.extract(Q, Q, device="cpu"))


def test_a_tensor_whose_sign_is_a_view_of_torch():
    torch = pytest.importorskip("torch")
    plain = torch.arange(24.0, dtype=torch.float64).reshape(1, 4, 6).cos()
    turned = torch.complex(torch.zeros_like(plain), -plain).conj().imag  # -(-plain), of which DLPack sees the inner
    assert turned.is_neg() and bool((turned == plain).all())
    assert not ag.extract(turned, plain, 0.1).diff(ag.extract(plain, plain, 0.1))
    assert not ag.extract(plain, turned, 0.1).diff(ag.extract(plain, plain, 0.1))
    assert not ag.from_matrix(turned[0], 0.1).diff(ag.from_matrix(plain[0], 0.1))


def test_a_path_with_a_nul_is_not_cut_off(tmp_path):
    graph = ag.from_matrix([[1.0]], 0.1)
    for write in (graph.save, graph.to_csv, graph.to_html):
        with pytest.raises(ag.Error, match="NUL"):
            write(str(tmp_path / "g\0.npz"))
    with pytest.raises(ag.Error, match="NUL"):
        ag.load("g\0.npz")
    assert not list(tmp_path.iterdir())
