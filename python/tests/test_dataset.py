# SPDX-License-Identifier: Apache-2.0
"""Data sets hold what one call answers, outlive whoever writes them, and refuse what is not theirs."""

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from same import assert_identical, random_qk

import attngraph as ag
from attngraph.dataset import _files, _work

HOW = {"threshold": 0.02, "pairs_per_task": 300_000}


def problem():
    return random_qk(2, 4, 2, 900)


@pytest.mark.parametrize("form", ["npz", "safetensors"])
def test_a_data_set_is_the_graph_of_one_call(tmp_path, form):
    q, k = problem()
    tokens = [f"w{i}" for i in range(900)]
    whole = ag.extract(q, k, threshold=0.02, tokens=tokens)
    made = ag.dataset.extract(tmp_path / "set", q, k, form=form, tokens=tokens, **HOW)
    assert made.missing == [] and made.edge_count == len(whole) and len(list(made.parts())) == 4
    assert_identical(made.graph(), whole)
    assert_identical(made.graph(0, 3), whole.filter(heads=[3]), report=False)  # its own parts' band
    assert made.slices["edges"].tolist() == [s.edge_count for s in whole.slices]
    np.testing.assert_allclose(made.slices["kept_mass"], [c.mean for c in whole.coverage()], rtol=1e-12)
    made.verify()


def test_sums_come_from_the_index_and_a_head_from_its_own_parts(tmp_path, monkeypatch):
    q, k = problem()
    ag.dataset.extract(tmp_path / "set", q, k, **HOW)
    read = []
    monkeypatch.setattr("attngraph.dataset._read.load", lambda path: read.append(path) or ag.load(path))
    made = ag.open(tmp_path / "set")
    assert made.edge_count and len(made.slices) == 4 and made.file_bytes and repr(made) and not read
    made.graph(0, 2)
    assert len(read) == 2 and all("heads-0002-0003" in path for path in read)


def test_questions_are_answered_as_by_the_whole_graph(tmp_path):
    q, k = problem()
    whole = ag.extract(q, k, threshold=0.02, stats="heads")
    made = ag.dataset.extract(tmp_path / "set", q, k, stats="heads", **HOW)
    for got, want in zip(made.sweep([0.02, 0.1, 0.5]), whole.sweep([0.02, 0.1, 0.5])):
        assert (got.edges, got.nodes) == (want.edges, want.nodes)
        assert got.kept_mass == pytest.approx(want.kept_mass, rel=1e-12)
    top = made.top(50)
    assert list(zip(*(top[name].tolist() for name in top.columns[1:]))) == [tuple(edge) for edge in whole.top(50)]
    got, want = made.heads().to_dict(), whole.heads().to_dict()
    assert list(got)[1:] == list(want)
    for name, values in want.items():
        np.testing.assert_allclose(got[name], values, rtol=1e-9)


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    pytest.importorskip("pyarrow")
    q, k = problem()
    folder = tmp_path_factory.mktemp("tables") / "set"
    return ag.dataset.extract(folder, {3: (q, k), 7: (k, k)}, tables=True, **HOW), folder / "edges"


def test_pyarrow_reads_the_tables(tables):
    made, folder = tables
    table = pytest.importorskip("pyarrow.dataset").dataset(folder, partitioning="hive").to_table()
    assert table.num_rows == made.edge_count
    assert sorted(table.column_names) == ["batch", "doc", "head", "key", "layer", "query", "weight"]


def test_duckdb_reads_the_tables(tables):
    made, folder = tables
    rows = pytest.importorskip("duckdb").sql(
        "SELECT layer, head, count(*), sum(weight) "
        f"FROM read_parquet('{folder}/**/*.parquet', hive_partitioning = true) GROUP BY ALL"
    )
    want = {(s["layer"], s["head"]): (s["edges"], s["kept_mass"] * s["rows"]) for s in made.slices}
    got = {(layer, head): (count, weight) for layer, head, count, weight in rows.fetchall()}
    assert got.keys() == want.keys()
    for key, (edges, mass) in want.items():
        assert got[key] == (edges, pytest.approx(mass, rel=1e-5))


def test_polars_reads_one_head_of_the_tables(tables):
    made, folder = tables
    polars = pytest.importorskip("polars")
    frame = polars.scan_parquet(f"{folder}/**/*.parquet", hive_partitioning=True)
    head = frame.filter(polars.col("layer") == 7, polars.col("head") == 1).sort("query", "key").collect()
    edges = made.graph(7, 1).edges
    np.testing.assert_array_equal(head["key"].to_numpy(), edges["key"])
    np.testing.assert_array_equal(head["weight"].to_numpy(), edges["weight"])


def test_resuming_does_only_what_is_missing(tmp_path, monkeypatch):
    q, k = problem()
    folder = tmp_path / "set"
    whole = ag.dataset.extract(folder, q, k, **HOW).graph()
    with pytest.raises(ag.errors.ArgumentError, match="resume=True"):
        ag.dataset.extract(folder, q, k, **HOW)
    gone = sorted(folder.glob("graphs/*/*.npz"))[1::2]
    for path in gone:
        path.unlink()
    done = []
    run = _work.run
    monkeypatch.setattr(_work, "run", lambda task, *rest: done.append(task.name) or run(task, *rest))
    assert_identical(ag.dataset.extract(folder, q, k, resume=True, **HOW).graph(), whole)
    assert done == [path.stem for path in gone]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"threshold": 0.03}, "another threshold"),
        ({"causal": False}, "another causal"),
        ({"form": "safetensors"}, "form 'npz'"),
        ({"pairs_per_task": 100_000}, "other parts"),
        ({"q": 1}, "another q"),
    ],
)
def test_only_the_same_question_is_resumed(tmp_path, change, told):
    q, k = problem()
    ag.dataset.extract(tmp_path / "set", q, k, **HOW)
    if "q" in change:
        q, change = q + np.float32(1e-3), {}
    with pytest.raises(ag.errors.ArgumentError, match=told):
        ag.dataset.extract(tmp_path / "set", q, k, resume=True, **{**HOW, **change})


def test_what_is_not_whole_or_not_its_own_is_refused_by_name(tmp_path):
    q, k = problem()
    folder = tmp_path / "set"
    made = ag.dataset.extract(folder, q, k, **HOW)
    part = sorted(folder.glob("graphs/*/*.npz"))[0]
    good = part.read_bytes()
    part.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(ag.errors.FormatError, match=f"{part.name} was changed"):
        made.graph(0, 0)
    assert len(made.graph(0, 3))
    part.write_bytes(good + b"x")
    with pytest.raises(ag.errors.FormatError, match=f"{part.name} was changed"):
        ag.dataset.extract(folder, q, k, resume=True, **HOW)
    part.unlink()
    with pytest.raises(ag.errors.NotFoundError, match=f"{part.name} is missing"):
        made.verify()
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "format_version": 2}))
    with pytest.raises(ag.errors.UnsupportedError, match="format_version 2"):
        ag.open(folder)
    (folder / "manifest.json").write_text("{")
    with pytest.raises(ag.errors.FormatError, match="no JSON"):
        ag.open(folder)
    with pytest.raises(ag.errors.NotFoundError, match="is no data set"):
        ag.open(tmp_path)
    with pytest.raises(ag.errors.ArgumentError, match="not empty"):
        ag.dataset.create(tmp_path, {})


def test_a_full_disk_loses_nothing_that_was_finished(tmp_path, monkeypatch):
    q, k = problem()
    folder = tmp_path / "set"
    sync, left = _files._sync, [11]

    def full(path):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(path)

    monkeypatch.setattr(_files, "_sync", full)
    with pytest.raises(ag.errors.NoSpaceError, match="what is finished stays"):
        ag.dataset.extract(folder, q, k, **HOW)
    monkeypatch.setattr(_files, "_sync", sync)
    half = ag.open(folder)
    assert len(half.missing) == 2 and not list((folder / "tmp").iterdir())
    with pytest.raises(ag.errors.NotFoundError, match="is missing"):
        half.graph()
    with pytest.raises(ag.errors.NotFoundError, match="not complete"):
        half.top(1)
    assert_identical(ag.dataset.extract(folder, q, k, resume=True, **HOW).graph(), ag.extract(q, k, threshold=0.02))


_DRIVER = """
import sys
import numpy as np
import attngraph as ag
a = np.load(sys.argv[1])
print("begin", flush=True)
ag.dataset.extract(sys.argv[2], a["q"], a["k"], threshold=0.02, pairs_per_task=100_000, resume=True)
"""


def test_a_writer_that_is_killed_leaves_nothing_that_looks_whole(tmp_path):
    q, k = random_qk(4, 8, 8, 1500)
    np.savez(tmp_path / "qk.npz", q=q, k=k)
    chance = random.Random(5)
    for _ in range(int(os.environ.get("ATTNGRAPH_KILLS", "1"))):
        driver = subprocess.Popen(
            [sys.executable, "-c", _DRIVER, str(tmp_path / "qk.npz"), str(tmp_path / "set")], stdout=subprocess.PIPE
        )
        driver.stdout.readline()
        time.sleep(0.05 + 0.3 * chance.random())
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        if (tmp_path / "set" / "manifest.json").exists():
            for _, _, graph in ag.open(tmp_path / "set").parts():
                assert len(graph.slices) == 1
    made = ag.dataset.extract(tmp_path / "set", q, k, threshold=0.02, pairs_per_task=100_000, resume=True)
    assert_identical(made.graph(), ag.extract(q, k, threshold=0.02))
    assert not (tmp_path / "set" / "tmp").exists()


def test_documents_are_kept_apart(tmp_path):
    writer = ag.dataset.create(tmp_path / "set", {"threshold": 0.5})
    for doc, weights in {"a/b .txt": [[1.0, 0.0], [0.25, 0.75]], "c": [[0.5, 0.5]]}.items():
        writer.write(ag.from_matrix(weights, threshold=0.5), "all", doc=doc)
    writer.finish()
    made = ag.open(tmp_path / "set")
    assert made.docs == ["a/b .txt", "c"] and len(made.graph(doc="c")) == 2
    assert made.top(1)["doc"].tolist() == ["a/b .txt"]
    with pytest.raises(ag.errors.NotFoundError, match="doc says which"):
        made.graph()
    with pytest.raises(ag.errors.ArgumentError, match="the part's name"):
        writer.write(ag.from_matrix([[1.0]]), "../x")


def test_half_precision_of_other_libraries_travels(tmp_path):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    q, k = (a.astype(ml_dtypes.bfloat16) for a in problem())
    made = ag.dataset.extract(tmp_path / "set", q, k, **HOW)
    assert_identical(made.graph(), ag.extract(q, k, threshold=0.02))


def test_what_is_over_all_edges_is_no_work_for_tasks(tmp_path):
    q, k = problem()
    with pytest.raises(ag.errors.UnsupportedError, match=r"take g.filter\(budget="):
        ag.dataset.extract(tmp_path / "set", q, k, budget=10)
