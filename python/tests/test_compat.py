# SPDX-License-Identifier: Apache-2.0
"""attngraph.compat gives what llamatelemetry gives, where that gives something."""

import doctest

import numpy as np
import pytest

pandas = pytest.importorskip("pandas")

import attngraph as ag
from attngraph import compat
from attngraph.compat import GraphistryBuilders


def double_loop(attention, threshold):
    """What the original does: every pair in Python, in float64."""
    matrix = np.asarray(attention, dtype=float)
    n = matrix.shape[0]
    pairs = ((i, j, float(matrix[i, j])) for i in range(n) for j in range(n))
    return [(i, j, weight) for i, j, weight in pairs if weight >= threshold]


def edges_of(*args, **kwargs):
    _, edges = GraphistryBuilders.attention_graph(*args, **kwargs)
    assert list(edges.columns) == ["src", "dst", "weight"]
    assert list(edges.index) == list(range(len(edges)))
    return list(zip(edges.src.tolist(), edges.dst.tolist(), edges.weight.tolist()))


@pytest.fixture
def seed_42():
    """The matrix of the notebook: numpy seed 42, 8 x 8 uniform, rows normalised, as nested lists."""
    raw = np.random.RandomState(42).rand(8, 8)
    return (raw / raw.sum(axis=1, keepdims=True)).tolist()


def test_the_notebooks_numbers(seed_42):
    counts = [len(edges_of(seed_42, threshold=t)) for t in (0.0, 0.10, 0.15, 0.20, 0.25)]
    assert counts == [64, 38, 27, 10, 3]
    _, edges = GraphistryBuilders.attention_graph(seed_42, threshold=0.15)
    assert edges.nlargest(2, "weight").values.tolist() == [[7, 6, 0.33142207205256036], [5, 3, 0.2743871188233156]]


@pytest.mark.parametrize("threshold", [-1.0, -0.1, 0.0, 0.05, 0.15, 1 / 3, 0.9, 2.0])
@pytest.mark.parametrize("kind", [np.float64, np.float32, np.float16, list])
def test_equals_the_double_loop(threshold, kind):
    matrix = np.random.RandomState(3).normal(0.1, 0.3, (17, 17))  # scores, negative ones among them
    attention = matrix.tolist() if kind is list else matrix.astype(kind)
    assert edges_of(attention, threshold=threshold) == double_loop(attention, threshold)


def test_the_threshold_is_inclusive_in_float64():
    # 0.15 as float32 is a little above 0.15, and 0.1 + 0.2 a little above 0.3: neither is rounded
    assert edges_of(np.array([[0.15]], np.float32), threshold=0.15) == [(0, 0, float(np.float32(0.15)))]
    assert edges_of([[0.15]], threshold=float(np.float32(0.15))) == []
    assert edges_of([[0.3]], threshold=0.1 + 0.2) == []
    assert edges_of([[0.25]], threshold=0.25) == [(0, 0, 0.25)]


def test_strides_and_orders_do_not_matter(seed_42):
    matrix = np.array(seed_42)
    expected = edges_of(matrix, threshold=0.1)
    wide = np.zeros((8, 16))
    wide[:, ::2] = matrix
    for attention in (np.asfortranarray(matrix), wide[:, ::2], matrix.astype(">f8"), tuple(map(tuple, seed_42))):
        assert edges_of(attention, threshold=0.1) == expected
    assert edges_of(matrix.T, threshold=0.1) == double_loop(matrix.T, 0.1)
    assert edges_of([np.array(row) for row in seed_42], threshold=0.1) == expected


def test_torch_tensors_are_taken_as_they_are(seed_42):
    torch = pytest.importorskip("torch")
    matrix = torch.tensor(seed_42, dtype=torch.float64, requires_grad=True)
    assert edges_of(matrix, threshold=0.15) == double_loop(seed_42, 0.15)
    assert edges_of(matrix.bfloat16(), threshold=0.15) == double_loop(matrix.detach().bfloat16().double(), 0.15)


def test_nodes_hold_ids_and_tokens():
    nodes, _ = GraphistryBuilders.attention_graph([[0.5, 0.5], [0.5, 0.5]], tokens=["the", "the"])
    assert nodes.to_dict("list") == {"id": [0, 1], "token": ["the", "the"]}
    for nothing in (None, []):
        nodes, _ = GraphistryBuilders.attention_graph([[0.5, 0.5], [0.5, 0.5]], nothing)
        assert nodes.to_dict("list") == {"id": [0, 1], "token": ["0", "1"]}


def test_older_pandas_gives_the_same_tables(monkeypatch, seed_42):
    import sys

    tokens = ["a", 3, None, (1, 2), b"e", ["f"], np.arange(2), "h"]
    new = ag.attention_graph(seed_42, tokens)
    monkeypatch.setitem(sys.modules, "pandas.api.internals", None)
    for one, other in zip(new, ag.attention_graph(seed_42, tokens)):
        pandas.testing.assert_frame_equal(one, other)
        assert one.index.equals(other.index) and len(one)


def test_tables_can_be_changed(seed_42):
    nodes, edges = ag.attention_graph(seed_42, list("abcdefgh"))
    nodes["group"], edges.loc[0, "weight"] = 1, 9.0
    assert nodes.columns.tolist() == ["id", "token", "group"] and edges.weight.max() == 9
    again, _ = ag.attention_graph(seed_42, list("abcdefgh"))
    assert again.columns.tolist() == ["id", "token"]
    assert pandas.concat([edges, edges]).groupby("src").weight.sum().shape == (8,)


@pytest.mark.parametrize("row", [tuple, list])
def test_nested_rows_are_read_as_numpy_reads_them(row):
    matrix = np.random.RandomState(7).rand(6, 6)
    rows = [row(r) for r in matrix.tolist()]
    for nested in (rows, tuple(rows), [[0.5, 1], [0, 0.25]], [[np.float64(0.5)]], [[True, 0.5], [0.5, False]]):
        assert edges_of(nested, threshold=0.2) == double_loop(nested, 0.2)


def test_an_answer_without_edges_keeps_its_columns():
    nodes, edges = GraphistryBuilders.attention_graph([[0.1]], threshold=0.5)
    assert (len(nodes), len(edges)) == (1, 0)
    assert edges.nlargest(5, "weight").empty
    assert edges.dtypes.astype(str).to_dict() == {"src": "int64", "dst": "int64", "weight": "float64"}
    nodes, edges = GraphistryBuilders.attention_graph([])
    assert (list(nodes.columns), list(edges.columns)) == (["id", "token"], ["src", "dst", "weight"])


def test_other_than_square_matrices_are_defined():
    assert edges_of([[0.2, 0.3, 0.5]], threshold=0.3) == [(0, 1, 0.3), (0, 2, 0.5)]
    with pytest.raises(ag.errors.ShapeError):
        GraphistryBuilders.attention_graph([[0.2], [0.8]])


def test_what_is_not_finite_is_no_edge():
    nan, inf = float("nan"), float("inf")
    assert edges_of([[nan, 0.5], [inf, -inf]], threshold=0.0) == [(0, 1, 0.5)]


@pytest.mark.parametrize("attention", [[[0.5, 0.5], [1.0]], [[[0.5]]], [0.5], 0.5, [["a"]]])
def test_what_is_no_matrix_is_refused(attention):
    with pytest.raises(ag.errors.ShapeError):
        GraphistryBuilders.attention_graph(attention)


def test_as_many_tokens_as_columns():
    with pytest.raises(ag.errors.ShapeError, match="3 tokens"):
        GraphistryBuilders.attention_graph([[0.5, 0.5], [0.5, 0.5]], ["a", "b", "c"])


def test_the_docstring_says_what_it_shows():
    assert doctest.testmod(compat)[:] == (0, 4)
