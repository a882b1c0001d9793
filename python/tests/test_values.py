# SPDX-License-Identifier: Apache-2.0
"""Numbers, choices and lists of any library; what is none of them is told as an attngraph.Error that names it."""

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


ODD = [None, "x", b"x", object(), [], {}, (3, 0), [None], 1.5, float("nan"), 2**70, -(2**70), True, np.eye(2), 1j, ["a"]]
SCORES = ("scale", "softcap", "sinks", "lse", "lse_base", "decision", "products")  # not of from_matrix
EXTRACT = [
    "threshold", "scale", "query_offset", "mask", "key_lengths", "window", "softcap", "sinks", "lse", "lse_base", "top_k",
    "mass", "layers", "layer", "heads", "query_range", "layout", "tokens", "query_tokens", "device", "backend", "threads",
    "decision", "products", "stats", "nonfinite", "max_edges",
]  # fmt: skip


@pytest.mark.parametrize("name", EXTRACT)
def test_every_parameter_fails_as_an_error_of_attngraph(name):
    for odd in ODD:
        calls = [lambda **how: ag.extract(Q, Q, **how), lambda **how: ag.from_matrix(WEIGHTS, **how)]
        for call in calls[: 1 if name in SCORES else 2]:
            try:
                call(**{name: odd})
            except ag.Error as error:
                assert str(error)


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_every_method_fails_as_an_error_of_attngraph(odd, tmp_path):
    graph = ag.from_matrix(WEIGHTS, tokens=list("abcde"))
    calls = [
        lambda: graph.top(odd), lambda: graph.sweep(odd), lambda: graph.csr(odd), lambda: graph.csr(0, odd),
        lambda: graph.stats(odd, odd), lambda: graph.diff(odd), lambda: graph.diff(graph, odd), lambda: graph.filter(odd),
        lambda: graph.filter(top_k=odd), lambda: graph.filter(layers=odd), lambda: graph.filter(heads=odd),
        lambda: graph.aggregate(odd), lambda: graph.aggregate("mean", odd), lambda: ag.concat(odd),
        lambda: ag.concat([graph, odd]), lambda: ag.load(odd), lambda: ag.from_matrix(odd), lambda: ag.extract(odd, odd),
        lambda: ag.extract(odd), lambda: ag.extract(Q, odd), lambda: graph.labels(odd), lambda: ag.vllm_hook.read(odd),
    ]  # fmt: skip
    for call in calls:
        try:
            call()
        except ag.Error as error:
            assert str(error)


SLICE = ag.Slice(0, 0, 0, 0, 1, 1, 1)
CSR = ag.Csr(np.array([0, 1]), np.array([0], np.int32), np.array([0.5], np.float32))


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_every_function_fails_as_an_error_of_attngraph(odd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    eye, builders = np.eye(2), ag.compat.GraphistryBuilders
    graph = ag.from_matrix(eye)
    calls = [
        lambda: ag.attention_graph(odd, ["a", "b"]), lambda: ag.attention_graph(eye, odd),
        lambda: ag.attention_graph(eye, ["a", "b"], odd), lambda: ag.attention_graph(eye, ["a", "b"], nonfinite=odd),
        lambda: builders.attention_graph(odd), lambda: builders.attention_graph(eye, odd),
        lambda: builders.attention_graph(eye, None, odd), lambda: ag.from_slices(odd),
        lambda: ag.from_slices([(SLICE, odd)]), lambda: ag.from_slices([(odd, CSR)]),
        lambda: ag.from_slices([(SLICE, CSR, odd)]), lambda: ag.from_slices([(SLICE, CSR)], odd),
        lambda: ag.from_slices([(SLICE, CSR)], None, odd), lambda: ag.token_texts(odd),
        lambda: ag.token_texts([1], odd), lambda: graph.edges[odd], lambda: graph.to_networkx(odd),
        lambda: graph.to_csv(odd), lambda: graph.save(odd), lambda: graph.to_parquet(odd),
        lambda: graph.to_parquet("p", odd), lambda: graph.to_graphml("x.graphml", direction=odd),
        lambda: graph.to_scipy(odd), lambda: graph.rollout(residual=odd), lambda: graph.rollout(threshold=odd),
        lambda: graph.rows(odd), lambda: graph.columns(odd),
    ]  # fmt: skip
    for call in calls:
        try:
            call()
        except ag.Error as error:
            assert str(error)


def test_messages_name_the_value():
    for how, text in (
        ({"threshold": None}, "threshold is None; it is a number"),
        ({"heads": "all"}, "heads is 'all'; it is a sequence or array of integers"),
        ({"heads": [0, 1.5]}, r"heads\[1\] is 1.5; it is an integer"),
        ({"heads": np.eye(2, dtype=int)}, r"heads is an array of shape \[2, 2\]"),
        ({"window": (3, 0)}, r"window is \(3, 0\); it is an integer, at least 1, or None"),
        ({"tokens": 5}, "tokens is int; it must be a list"),
    ):
        with pytest.raises(ag.errors.ArgumentError, match=text):
            ag.from_matrix(WEIGHTS[0], **how)


def test_lone_surrogates_are_bytes_or_the_replacement_character():
    half, byte = "\ud83d", b"\xf0\x9f".decode("utf-8", "surrogateescape")
    graph = ag.from_matrix(np.eye(4), tokens=["?", half, byte, half + "x"])
    assert graph.tokens == ["?", "\ufffd", byte, "\ufffdx"]
