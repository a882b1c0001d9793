# SPDX-License-Identifier: Apache-2.0
import copy
import gc
import pickle

import numpy as np
import pytest
from conftest import edge_dict

import attngraph as ag


@pytest.fixture
def graph():
    rng = np.random.default_rng(5)
    q, k = (1.5 * rng.standard_normal((2, 2, 3, 30, 8)).astype(np.float32) for _ in range(2))
    return ag.extract(list(q), list(k), tokens=[f"t{i % 7}" for i in range(30)])


def test_arrays_are_views_that_outlive_the_graph(graph):
    csr, again = graph.csr(1, 2, batch=1), graph.csr(1, 2, batch=1)
    for a, b in zip(csr, again):
        assert a.ctypes.data == b.ctypes.data and not a.flags.writeable and not a.flags.owndata
    assert csr.indptr.dtype == np.int64 and csr.indices.dtype == np.int32 and csr.data.dtype == np.float32
    edges = graph.edges
    place = sum(s.edge_count for s in graph.slices[: graph._place(1, 2, 1)])
    assert edges["key"][place:].ctypes.data == csr.indices.ctypes.data
    assert edges["weight"][place:].ctypes.data == csr.data.ctypes.data
    want = [a.copy() for a in csr]
    del graph, edges, again
    gc.collect()
    np.zeros(1_000_000)  # something else for the memory, had it been given back
    for a, b in zip(csr, want):
        np.testing.assert_array_equal(a, b)


def test_table_is_in_order_and_agrees_with_the_slices(graph):
    e = graph.edges
    assert e.columns == ["batch", "layer", "head", "query", "key", "weight", "query_token", "key_token"]
    order = np.lexsort([e[name] for name in ("key", "query", "head", "batch", "layer")])
    assert (order == np.arange(len(graph))).all()
    assert len(e) == sum(s.edge_count for s in graph.slices) == len(graph)
    assert e["key_token"][5] == graph.tokens[e["key"][5]]
    with pytest.raises(KeyError):
        e["src"]
    assert f"{len(graph):,} rows" in repr(e) and "<table>" in e._repr_html_()


def test_repr_says_shape_edges_and_mass(graph):
    assert repr(graph) == (
        f"<attngraph.Graph: 2 batches x 2 layers x 3 heads, 30 queries x 30 keys, {len(graph):,} edges, "
        f"{100 * graph.report.kept_mass:.1f} % of the mass kept>"
    )
    html = ag.from_matrix([[1, 0, 0], [0, 1, 0], [0, 0.9, 0.1]], tokens=["a", "<script>", "b"])._repr_html_()
    assert "<script>" not in html and "&lt;script&gt;" in html


def test_top_sweep_stats_and_coverage(graph):
    weights = sorted(graph.edges["weight"].tolist(), reverse=True)
    assert [e.weight for e in graph.top(10)] == weights[:10]
    assert [row.edges for row in graph.sweep([0.5, 0.05])] == [sum(w >= 0.5 for w in weights), len(weights)]
    stats = graph.stats()
    assert stats.edges == len(graph) and stats.rows == 2 * 2 * 3 * 30
    assert graph.stats(1, 2, batch=1).edges == graph.slices[-1].edge_count
    with pytest.raises(ag.errors.ArgumentError):
        graph.stats(layer=1)
    cover = graph.coverage()
    assert [c[:3] for c in cover] == [s[:3] for s in graph.slices]
    rows = graph.rows(cover[4].layer, cover[4].head, cover[4].batch)
    assert cover[4].mean == pytest.approx(rows.kept_mass.mean()) and rows.kept_mass[cover[4].lowest_query] == cover[4].minimum


def test_filter_and_diff(graph):
    part = graph.filter(0.2, layers=1, heads=[0, 2])
    want = {e: w for e, w in edge_dict(graph).items() if w >= np.float32(0.2) and e[1] == 1 and e[2] != 1}
    assert edge_dict(part) == want and part.tokens == graph.tokens
    assert not graph.diff(graph)
    d = graph.filter(layers=1).diff(part)
    assert d and d.slices_only_a == 2 and d.only_b == 0
    with pytest.raises(LookupError):
        graph.filter(heads=[3])
    with pytest.raises(ag.errors.ArgumentError):
        graph.filter(heads=[])


def test_a_budget_keeps_the_heaviest_edges(graph):
    few = graph.filter(budget=10)
    assert [tuple(e) for e in few.top(99)] == [tuple(e) for e in graph.top(10)]
    assert few.metadata["budget"] == "10" and few.report.eps == graph.report.eps
    kept = sum(few.rows(s.layer, s.head, s.batch).kept_mass.sum() for s in few.slices)
    assert sum(e.weight for e in few.top(10)) == pytest.approx(kept)
    assert all(s.edge_count == 2 for s in graph.filter(head_budget=2).slices)
    rng = np.random.default_rng(5)
    q, k = (1.5 * rng.standard_normal((2, 2, 3, 30, 8)).astype(np.float32) for _ in range(2))
    assert edge_dict(ag.extract(list(q), list(k), budget=10)) == edge_dict(few)
    for wrong in (0, -1, 1.5):
        with pytest.raises(ag.errors.ArgumentError, match="budget"):
            graph.filter(budget=wrong)


@pytest.mark.parametrize("over", ["head", "layer"])
def test_aggregate_is_what_dense_arrays_give(graph, over):
    dense = np.zeros((2, 2, 3, 30, 30))
    for (b, l, h, i, j), w in edge_dict(graph).items():
        dense[b, l, h, i, j] = w
    axis = 2 if over == "head" else 1
    for how, function in {"mean": np.mean, "max": np.max, "sum": np.sum}.items():
        joined = graph.aggregate(how, over)
        want = function(dense, axis=axis, keepdims=True)
        got = edge_dict(joined)
        assert got.keys() == {tuple(e) for e in np.argwhere(want > 0).tolist()}
        np.testing.assert_allclose(list(got.values()), [want[e] for e in got])
        assert joined.tokens == graph.tokens and joined.metadata["weights"] == f"{how} over {over}s"


def test_rollout_is_the_product_of_mixed_layers(graph):
    pytest.importorskip("scipy")
    want = np.tile(np.eye(30), (2, 1, 1))
    for layer in range(2):
        for batch in range(2):
            a = sum(graph.to_scipy(layer, head, batch).toarray().astype(float) for head in range(3))
            total = a.sum(1, keepdims=True)
            a = np.where(total > 0, 0.5 * a / np.where(total > 0, total, 1) + 0.5 * np.eye(30), np.eye(30))
            want[batch] = a @ want[batch]
    rolled = graph.rollout()
    for batch in range(2):
        np.testing.assert_allclose(rolled.to_scipy(batch=batch).toarray(), want[batch], atol=1e-12)
        np.testing.assert_allclose(rolled.rows(batch=batch).kept_mass, 1)
    assert len(graph.rollout(threshold=0.1)) == (want >= 0.1).sum()
    with pytest.raises(ag.errors.ShapeError):
        ag.from_matrix([[0.5, 0.5]]).rollout()


def test_concat_stitches_prefill_and_decode():
    rng = np.random.default_rng(6)
    q, k = (rng.standard_normal((1, 2, 12, 8)).astype(np.float32) for _ in range(2))
    steps = [ag.extract(q[:, :, :9], k[:, :, :9])]
    for n in range(9, 12):
        step = ag.extract(q[:, :, n : n + 1], k[:, :, : n + 1])
        moved = [(s._replace(query_begin=n), step.csr(0, s.head), step.rows(0, s.head)) for s in step.slices]
        steps.append(ag.from_slices(moved))
    joined = ag.concat(steps)
    assert not ag.extract(q, k).diff(joined)
    assert joined.slices[0].key_count == 12
    with pytest.raises(ag.errors.ShapeError, match="gap"):
        ag.concat([steps[0], steps[2]])
    with pytest.raises(ag.errors.ShapeError, match="overlap"):
        ag.concat([steps[0], steps[0]])


def test_from_slices_refuses_what_is_no_graph():
    def made(indptr=(0, 1, 2), indices=(0, 1), data=(0.5, 0.5), **labels):
        s = ag.Slice(0, 0, 0, 0, 2, 2, 2)._replace(**labels)
        csr = ag.Csr(np.array(indptr), np.array(indices, np.int32), np.array(data))
        return ag.from_slices([(s, csr)])

    assert len(made()) == 2 and made().rows().max_key.tolist() == [0, 1] and np.isnan(made().rows().logsumexp).all()
    for wrong in (
        {"indptr": (0, 2, 1)}, {"indptr": (1, 1, 2)}, {"indptr": (0, 1, 3)}, {"indptr": (0, 2)}, {"indices": (0, 2)},
        {"indptr": (0, 2, 2), "indices": (1, 0)}, {"indptr": (0, 2, 2), "indices": (1, 1)}, {"indices": (-1, 0)},
        {"data": (0.5, np.nan)}, {"data": (0.5,)}, {"layer": -1}, {"query_begin": -1}, {"key_count": -1},
    ):  # fmt: skip
        with pytest.raises(ValueError):
            made(**wrong)


@pytest.mark.parametrize("suffix", ["npz", "safetensors", "csv", "jsonl"])
def test_files_read_back(graph, tmp_path, suffix):
    path = tmp_path / f"graph.{suffix}"
    getattr(graph, f"to_{suffix}")(path)
    read = ag.load(path)
    assert not graph.diff(read) and edge_dict(read) == edge_dict(graph)
    if suffix in ("npz", "safetensors"):
        assert read.tokens == graph.tokens and read.report == graph.report and read.metadata == graph.metadata
        np.testing.assert_array_equal(read.rows(1, 1).logsumexp, graph.rows(1, 1).logsumexp)


def test_copies(graph):
    for other in (pickle.loads(pickle.dumps(graph)), copy.deepcopy(graph)):
        assert edge_dict(other) == edge_dict(graph) and other.tokens == graph.tokens and other.report == graph.report


def test_tokens_keep_their_bytes():
    tokens = ["a", "\udcff", "\ud83d", "", "é", b"\x00\xfe"]
    g = ag.from_matrix(np.eye(6), tokens=tokens)
    assert g.tokens == ["a", "\udcff", "\ufffd", "", "é", "\x00\udcfe"]
    with pytest.raises(ag.errors.ShapeError):
        ag.from_matrix(np.eye(6), tokens=["a"])
    with pytest.raises(ag.errors.DtypeError):
        ag.from_matrix(np.eye(1), tokens=[1])


def test_an_empty_graph_answers_everything():
    g = ag.extract(np.zeros((1, 2, 0, 8), np.float32), np.zeros((1, 2, 0, 8), np.float32))
    assert len(g) == 0 and g.top(3) == [] and len(g.edges["query"]) == 0 and g.csr(0, 1).indptr.tolist() == [0]
    assert len(g.aggregate()) == 0 and g.coverage()[0].rows == 0 and bool(g) and "0 edges" in repr(g)
    none = ag.concat([])
    assert len(none) == 0 and len(none.edges["weight"]) == 0 and none.slices == []
