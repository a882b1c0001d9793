# SPDX-License-Identifier: Apache-2.0
"""A report travels with a graph through every operation; what is not known is None, never 0."""

import pickle

import numpy as np
import pytest

import attngraph as ag
from attngraph._stitch import Place, stitched


@pytest.fixture
def graph():
    rng = np.random.default_rng(5)
    q, k = (1.5 * rng.standard_normal((2, 2, 3, 30, 8)).astype(np.float32) for _ in range(2))
    return ag.extract(list(q), list(k), tokens=[f"t{i % 7}" for i in range(30)], stats="heads")


# Every method and function that makes a graph out of a graph. A new one has to stand here: see the next test.
OPERATIONS = {
    "filter": lambda g: g.filter(0.1, top_k=3),
    "aggregate": lambda g: g.aggregate("mean"),
    "rollout": lambda g: g.rollout(),
    "group": lambda g: g.group(),
    "concat": lambda g: ag.concat([g]),
    "concat with tokens": lambda g: ag.concat([g], tokens=["x"] * 30),
    "stitched": lambda g: stitched([(g, Place(0, 0))], tokens=["x"] * 30, metadata={"model": "m"}),
    "pickle": lambda g: pickle.loads(pickle.dumps(g)),
    "from_slices": lambda g: ag.from_slices([(g.slices[0], g.csr(0, 0, 0))], report=g.report),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_report_travels(graph, name):
    if name == "rollout":
        pytest.importorskip("scipy")
    before, after = graph.report, OPERATIONS[name](graph).report
    assert before.eps > 0 and before.backend == "cpu"
    assert (after.eps, after.borderline, after.backend, after.target) == before[:2] + before[6:8]


def test_every_operation_is_walked():
    made = {
        name
        for name in dir(ag.Graph)
        if not name.startswith("_") and getattr(getattr(ag.Graph, name), "__annotations__", {}).get("return") == "Graph"
    }
    assert {"filter", "group", "aggregate"} <= made
    assert made <= {name.split()[0] for name in OPERATIONS}, "a new operation is to be walked above"


def test_parts_add_up():
    rng = np.random.default_rng(6)
    q, k = (rng.standard_normal((2, 40, 8)).astype(np.float32) for _ in range(2))
    how = {"threshold": 0.02, "stats": "heads", "token_ids": np.arange(40) % 5}
    parts = [
        ag.extract(q, k, query_range=(0, 25), **how),
        ag.extract(q, k, query_range=(25, 40), backend="reference", **how),
    ]
    whole, joined = ag.extract(q, k, **how), ag.concat(parts)
    assert joined.report.eps == max(p.report.eps for p in parts)
    assert joined.report.borderline == sum(p.report.borderline for p in parts)
    assert joined.report.backend == "cpu, reference"
    a, b = whole.heads(), joined.heads()
    for name in a.columns:
        np.testing.assert_allclose(a[name], b[name], atol=1e-6)


def test_unknown_is_none(graph, tmp_path):
    own = ag.from_slices([(graph.slices[0], graph.csr(0, 0, 0))])
    graph.to_csv(tmp_path / "g.csv")
    for g in (own, ag.load(tmp_path / "g.csv"), ag.concat([graph.filter(layers=1), own])):
        assert g.report.eps is None and g.report.borderline is None
    graph.save(tmp_path / "g.npz")
    assert ag.load(tmp_path / "g.npz").report == graph.report
    own.save(tmp_path / "own.npz")
    assert ag.load(tmp_path / "own.npz").report.eps is None


def test_counts_of_certified_decisions_cross_python(graph):
    told = graph.report._replace(rows_decided_again=7, unresolved=1)
    made = ag.from_slices([(graph.slices[0], graph.csr(0, 0, 0))], report=told)
    assert (made.report.rows_decided_again, made.report.unresolved) == (7, 1)
    assert (made.aggregate().report.rows_decided_again, made.aggregate().report.unresolved) == (7, 1)
