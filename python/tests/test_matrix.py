# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from conftest import edge_dict, expected_edges

import attngraph as ag


def softmax_matrix(shape, seed=3):
    scores = np.random.default_rng(seed).standard_normal(shape) * 2
    e = np.exp(scores - scores.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def notebook_matrix():
    """Eight tokens, seed 42: uniform numbers, divided by their row's sum."""
    uniform = np.random.RandomState(42).rand(8, 8)
    return uniform / uniform.sum(axis=1, keepdims=True)


def test_counts_of_the_notebook():
    g = ag.from_matrix(notebook_matrix(), threshold=0)
    assert [row.edges for row in g.sweep([0, 0.10, 0.15, 0.20, 0.25])] == [64, 38, 27, 10, 3]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_comparison_is_inclusive_and_exact_in_float64(dtype):
    matrix = softmax_matrix((2, 3, 30, 30)).astype(dtype)
    g = ag.from_matrix(matrix, 0.1, layout="bhqk")
    assert edge_dict(g) == expected_edges(matrix.astype(np.float64), 0.1)
    assert g.csr().data.dtype == (np.float64 if dtype == np.float64 else np.float32)
    assert len(ag.from_matrix(np.array([[0.1]], np.float16), 0.1)) == 0  # 0.0999755859375
    assert len(ag.from_matrix(np.array([[0.1]], np.float64), 0.1)) == 1


def test_shapes():
    m = softmax_matrix((2, 3, 5, 5))
    assert [s[:3] for s in ag.from_matrix(m[0, 0]).slices] == [(0, 0, 0)]
    assert [s[:3] for s in ag.from_matrix(m[0]).slices] == [(0, 0, 0), (0, 0, 1), (0, 0, 2)]
    assert [s[:3] for s in ag.from_matrix(m, heads=2).slices] == [(0, 0, 2), (0, 1, 2)]
    assert [s[:3] for s in ag.from_matrix(m, heads=2, layout="bhqk").slices] == [(0, 0, 2), (1, 0, 2)]
    attentions = tuple(x[None] for x in m)  # as transformers returns them: a tuple of [B, H, S, S]
    assert not ag.from_matrix(m).diff(ag.from_matrix(attentions))
    assert {s.layer for s in ag.from_matrix((None, m[:1])).slices} == {1}
    assert {s.layer for s in ag.from_matrix({4: m[0], 9: m[1]}, layers=9).slices} == {9}
    assert not ag.from_matrix(m).diff(ag.from_matrix(m[:, None]))  # [L, B, H, S, S]


def test_lists_rows_of_arrays_and_integers():
    m = softmax_matrix((6, 6))
    for same in (m.tolist(), tuple(map(tuple, m)), list(m)):
        assert edge_dict(ag.from_matrix(same)) == edge_dict(ag.from_matrix(m))
    assert edge_dict(ag.from_matrix(np.eye(3, dtype=int))) == {(0, 0, 0, i, i): 1.0 for i in range(3)}


def test_transposed_matrices_are_read_in_place():
    m = softmax_matrix((7, 9))
    assert edge_dict(ag.from_matrix(m.T)) == edge_dict(ag.from_matrix(m.T.copy()))


def test_the_models_own_softmax_exactly(genesis_weights):
    softmax = genesis_weights[0]["softmax.12"]
    assert [len(ag.from_matrix(softmax, t)) for t in (0.01, 0.05, 0.1, 0.5)] == [23_727, 7_635, 4_282, 1_116]


def double_loop(matrix, threshold):
    return [
        (i, j, float(w)) for i, row in enumerate(matrix) for j, w in enumerate(row) if float(w) >= threshold
    ]


def rows_of(edges):
    return list(zip(edges.src.tolist(), edges.dst.tolist(), edges.weight.tolist()))


def test_attention_graph_is_the_double_loop():
    pytest.importorskip("pandas")
    tokens = ["The", "cat", "sat", "on", "the", "mat", ".", "The"]
    m = notebook_matrix()
    for matrix in (m, m.tolist(), m.astype(np.float32), m.astype(np.float16)):
        nodes, edges = ag.attention_graph(matrix, tokens)
        assert rows_of(edges) == double_loop(matrix, 0.15)
        assert nodes.id.tolist() == list(range(8)) and nodes.token.tolist() == tokens
        assert list(edges.columns) == ["src", "dst", "weight"] and str(edges.weight.dtype) == "float64"


def test_attention_graph_at_its_edges():
    pytest.importorskip("pandas")
    nodes, edges = ag.attention_graph([[0.1, 0.1], [0.1, 0.1]], ["a", "b"], threshold=0.5)
    assert list(edges.columns) == ["src", "dst", "weight"] and len(edges) == 0 and len(nodes) == 2
    nodes, edges = ag.attention_graph([], [])
    assert list(nodes.columns) == ["id", "token"] and len(nodes) == len(edges) == 0
    _, edges = ag.attention_graph([[0.2, 0.8]], ["a", "b"])  # fewer rows than tokens
    assert rows_of(edges) == [(0, 0, 0.2), (0, 1, 0.8)]
    nan = [[float("nan"), 0.5], [float("inf"), 0.5]]
    assert rows_of(ag.attention_graph(nan, ["a", "b"])[1]) == [(0, 1, 0.5), (1, 1, 0.5)]
    with pytest.raises(ag.errors.NonfiniteError):
        ag.attention_graph(nan, ["a", "b"], nonfinite="error")
    for matrix in ([[0.5]], [[0.5, 0.5]] * 3, [[0.5, 0.5], [0.5]], [0.5, 0.5], "ab", None):
        with pytest.raises(ag.errors.ShapeError):
            ag.attention_graph(matrix, ["a", "b"])
