# SPDX-License-Identifier: Apache-2.0
"""What other programs get. Their packages are optional: without one, its test is skipped."""

import ast
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from conftest import DATA, edge_dict

import attngraph as ag
from attngraph import _export


@pytest.fixture
def graph():
    rng = np.random.default_rng(7)
    q, k = rng.standard_normal((2, 1, 2, 20, 8)).astype(np.float32)
    return ag.extract(q, k, layer=3, tokens=[f"t{i % 5}é" for i in range(20)])


def rows_of(columns):
    return list(zip(*(list(columns[name]) for name in ("batch", "layer", "head", "query", "key", "weight"))))


def table(graph):
    return [(*edge, weight) for edge, weight in edge_dict(graph).items()]


def texts(graph, end):
    return [graph.tokens[position] for position in graph.edges[end]]


def test_the_librarys_reader_of_tensors_agrees_with_one_by_hand(genesis):
    file = ag._native.File(str(DATA / "genesis-1k.safetensors"))
    assert set(file.names()) == set(genesis[0])
    for name, array in genesis[0].items():
        assert file.dtype(name) == "f16"
        np.testing.assert_array_equal(file.read(name), array, strict=True)
    with pytest.raises(ag.errors.NotFoundError, match="q.5"):
        file.read("q.6")


def test_arrays_of_a_file_outlive_it(tmp_path):
    kinds = {"a": np.float64, "b": np.float32, "c": np.int32, "d": np.int64, "e": bool}
    np.savez(tmp_path / "a.npz", **{name: np.arange(6).reshape(2, 3).astype(kind) for name, kind in kinds.items()})
    file = ag._native.File(str(tmp_path / "a.npz"))
    arrays = {name: file.read(name) for name in file.names()}
    del file
    for name, kind in kinds.items():
        np.testing.assert_array_equal(arrays[name], np.arange(6).reshape(2, 3).astype(kind), strict=True)


def test_formats_are_those_that_the_library_lists(graph, tmp_path):
    written = {name.removeprefix("to_") for name in dir(ag.Graph) if name.removeprefix("to_") in ag._native.formats()}
    assert written == set(ag._native.formats()), "a to_NAME for every format, and a format for every to_NAME"
    for name in written:
        if name in _export.formats(ag._native.FORMAT_WHOLE):
            graph.save(tmp_path / f"g.{name.upper()}")
            assert not graph.diff(ag.load(tmp_path / f"g.{name.upper()}"))
        else:
            with pytest.raises(ag.errors.ArgumentError, match="a saved graph is .npz or .safetensors"):
                graph.save(tmp_path / f"g.{name}")


def test_importing_brings_no_optional_package():
    code = (
        "import sys, attngraph; print(sorted({'pandas', 'polars', 'pyarrow', 'scipy', 'networkx', 'torch', "
        "'graphistry'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_a_missing_package_is_named(graph, monkeypatch):
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(ag.errors.MissingPackageError, match="pip install polars") as caught:
        graph.to_polars()
    assert isinstance(caught.value, ImportError)


def test_nanoarrow(graph):
    import nanoarrow as na

    read = na.Array(graph.edges)
    assert read.schema.type == na.Type.STRUCT and len(read) == len(graph)
    first = next(iter(read.iter_py()))
    assert first["weight"] == table(graph)[0][-1] and first["query_token"] == texts(graph, "query")[0]


def test_pyarrow(graph):
    pa = pytest.importorskip("pyarrow")
    t = graph.to_arrow()
    t.validate(full=True)
    assert rows_of(t.to_pydict()) == table(graph)
    assert t["key_token"].to_pylist() == texts(graph, "key")
    assert t["key"].chunk(0).buffers()[1].address == graph.edges["key"].ctypes.data
    assert t["weight"].chunk(0).buffers()[1].address == graph.edges["weight"].ctypes.data
    assert pa.schema(graph.edges) == t.schema
    del graph
    assert t["weight"].to_pylist()[0] > 0
    doubles = ag.from_matrix(np.eye(2)).to_arrow()
    assert doubles.schema.field("weight").type == pa.float64() and doubles.num_rows == 2
    assert ag.concat([]).to_arrow().num_rows == 0


def test_pandas(graph):
    pytest.importorskip("pandas")
    frame = graph.to_pandas()
    assert rows_of({name: frame[name].tolist() for name in frame.columns}) == table(graph)
    assert frame.query_token.tolist() == texts(graph, "query")
    assert str(frame.query_token.dtype) == "category"


def test_polars(graph):
    pytest.importorskip("polars")
    frame = graph.to_polars()
    assert rows_of(frame.to_dict(as_series=False)) == table(graph)
    assert frame["key_token"].to_list() == texts(graph, "key")


def test_duckdb_reads_the_table_where_it_is(graph):
    duckdb = pytest.importorskip("duckdb")
    pytest.importorskip("pyarrow")
    edges = graph.edges  # noqa: F841 (named in the query)
    count, total = duckdb.connect().execute("select count(*), sum(weight) from edges").fetchone()
    assert count == len(graph) and total == pytest.approx(float(graph.edges["weight"].sum(dtype=float)))


def test_parquet_in_one_file_or_by_slice(graph, tmp_path):
    pytest.importorskip("pyarrow")
    import pyarrow.dataset as ds
    import pyarrow.parquet as pq

    graph.to_parquet(tmp_path / "edges.parquet")
    assert rows_of(pq.read_table(tmp_path / "edges.parquet").to_pydict()) == table(graph)
    graph.to_parquet(tmp_path / "parts", partition_by=["layer", "head"])
    assert sorted(p.name for p in (tmp_path / "parts/layer=3").iterdir()) == ["head=0", "head=1"]
    read = ds.dataset(tmp_path / "parts", partitioning="hive").to_table().to_pydict()
    assert sorted(rows_of(read)) == table(graph)
    with pytest.raises(ag.errors.ArgumentError):
        graph.to_parquet(tmp_path / "x", partition_by="query")


def test_scipy_shares_keys_and_weights(graph):
    pytest.importorskip("scipy")
    m = graph.to_scipy(3, 1)
    assert m.shape == (20, 20) and m.data.ctypes.data == graph.csr(3, 1).data.ctypes.data
    assert np.shares_memory(m.indices, graph.csr(3, 1).indices)
    part = ag.from_matrix(np.eye(5), query_range=(2, 4)).to_scipy()
    assert part.toarray().tolist() == np.diag([0.0, 0, 1, 1, 0])[:4].tolist()


def test_networkx(graph, monkeypatch):
    pytest.importorskip("networkx")
    n = graph.to_networkx()
    assert n.number_of_edges() == len(graph) and n.number_of_nodes() == 20 and n.nodes[6]["token"] == "t1é"
    b, layer, head, query, key, weight = table(graph)[7]
    assert n.edges[query, key, (b, layer, head)]["weight"] == weight
    assert graph.to_networkx(direction="key_to_query").has_edge(key, query, (b, layer, head))
    monkeypatch.setattr(ag._export, "_NETWORKX_EDGES", 5)
    with pytest.raises(ag.errors.LimitError):
        graph.to_networkx()
    assert graph.to_networkx(force=True).number_of_edges() == len(graph)


def test_graphistry_is_prepared_but_nothing_is_sent(graph, monkeypatch):
    pytest.importorskip("graphistry")
    import socket

    def refuse(*_):
        raise AssertionError("to_graphistry opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    plotter = graph.to_graphistry()
    assert (plotter._source, plotter._destination, plotter._node) == ("src", "dst", "id")
    assert plotter._edges.src.tolist() == graph.edges["query"].tolist()
    assert plotter._nodes.token.tolist() == graph.tokens
    assert graph.to_graphistry("key_to_query")._edges.src.tolist() == graph.edges["key"].tolist()


def test_a_query_has_the_label_of_the_position_where_it_stands():
    g = ag.from_matrix([[0.0, 0.0, 1.0]], causal=True, tokens=["a", "b", "c"])  # one query, at the last key
    assert g.edges["query"].tolist() == [0] and g.edges["query_token"].tolist() == ["c"]
    assert "&#x27;c&#x27;" in g.edges._repr_html_() and "'c'" in repr(g.edges)
    late = ag.from_matrix([[1.0]] * 2, query_offset=0, tokens=["a"])  # more queries than keys
    assert late.edges["query_token"].tolist() == ["a", ""]
    pytest.importorskip("pandas")
    assert g.to_pandas().query_token.tolist() == ["c"] and late.to_pandas().query_token.isna().tolist() == [False, True]
    pytest.importorskip("networkx")
    assert list(g.to_networkx().edges(keys=True)) == [(2, 2, (0, 0, 0))]


def test_csv_guards_spreadsheets_unless_raw(tmp_path):
    g = ag.from_matrix([[0.5]], tokens=["=1+1"])
    path = tmp_path / "e.csv"
    g.to_csv(path)
    assert "'=1+1" in path.read_text()
    g.to_csv(path, raw=True)
    assert "'" not in path.read_text()
    g.to_csv(path, labels=False)
    assert path.read_text() == "batch,layer,head,query,key,weight\n0,0,0,0,0,0.5\n"


def test_graphml_and_dot_name_both_directions(graph, tmp_path):
    graph.to_graphml(tmp_path / "g.graphml", direction="key_to_query")
    space = "{http://graphml.graphdrawing.org/xmlns}"
    ends = []
    for edge in ElementTree.parse(tmp_path / "g.graphml").iter(f"{space}edge"):
        data = {d.get("key"): d.text for d in edge}
        assert edge.get("source") == f"b0_{data['key']}" and edge.get("target") == f"b0_{data['query']}"
        ends.append((0, int(data["layer"]), int(data["head"]), int(data["query"]), int(data["key"])))
    assert sorted(ends) == list(edge_dict(graph))
    graph.to_dot(tmp_path / "g.dot")
    assert (tmp_path / "g.dot").read_text().count("->") == len(graph)
    with pytest.raises(ag.errors.ArgumentError):
        graph.to_dot(tmp_path / "g.dot", direction="up")


def test_a_file_that_cannot_be_written_leaves_nothing(graph, tmp_path):
    with pytest.raises(OSError):
        graph.save(tmp_path / "no" / "such" / "folder.npz")
    with pytest.raises(ag.errors.ArgumentError):
        graph.save(tmp_path / "graph.pkl")
    assert list(tmp_path.iterdir()) == []


def test_half_characters_go_to_every_other_program(tmp_path):
    g = ag.from_matrix(np.eye(3), tokens=["a", b"\xf0\x9f", b"\x98\x80"])
    assert g.tokens == ["a", "\udcf0\udc9f", "\udc98\udc80"], "Python keeps the bytes"
    shown = ["a", "\ufffd\ufffd", "\ufffd\ufffd"]
    pandas = pytest.importorskip("pandas")
    frame = g.to_pandas()
    assert frame["key_token"].tolist() == shown
    frame.to_csv(tmp_path / "e.csv")
    assert pandas.read_csv(tmp_path / "e.csv")["query_token"].tolist() == shown
    frame.to_json(tmp_path / "e.json")
    networkx = pytest.importorskip("networkx")
    networkx.write_graphml(g.to_networkx(), tmp_path / "e.graphml")
    assert list(networkx.get_node_attributes(g.to_networkx(), "token").values()) == shown
    pytest.importorskip("pyarrow")
    assert g.to_arrow()["key_token"].to_pylist() == shown
    g.to_parquet(tmp_path / "e.parquet")
    assert pandas.read_parquet(tmp_path / "e.parquet")["key_token"].tolist() == shown


def test_suffixes_may_be_in_capitals(graph, tmp_path):
    graph.save(tmp_path / "G.NPZ")
    assert len(ag.load(tmp_path / "G.NPZ")) == len(graph)


def test_no_module_keeps_a_list_of_formats():
    """Tuples, lists and sets that name several; annotations say for readers what is taken."""
    names = set(ag._native.formats())
    for path in sorted(Path(ag.__file__).parent.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        annotations = {id(inner) for node in ast.walk(tree) if isinstance(node, ast.Subscript) for inner in ast.walk(node)}
        for node in ast.walk(tree):
            if isinstance(node, (ast.Tuple, ast.List, ast.Set)) and id(node) not in annotations:
                assert len({item.value for item in node.elts if isinstance(item, ast.Constant)} & names) < 2, (path, node.lineno)
