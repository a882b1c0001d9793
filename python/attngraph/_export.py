# SPDX-License-Identifier: Apache-2.0
"""Graphs on their way to other programs. Packages are imported when they are asked for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Union

import numpy as np

from . import _native, _values
from ._labels import lists_of
from ._optional import optional
from .errors import ArgumentError, LimitError

if TYPE_CHECKING:
    import networkx
    import pandas
    import polars
    import pyarrow
    import scipy.sparse

_NETWORKX_EDGES = 1_000_000

Path = Union[str, "os.PathLike[str]"]
Direction = Literal["query_to_key", "key_to_query"]


class Exports:
    """The to_* methods of `Graph`."""

    # ------------------------------------------------------------------------------------------------------------
    # data frames

    def to_pandas(self) -> pandas.DataFrame:
        """The table of edges as a pandas DataFrame; tokens, where there are any, as categories.

        What is no UTF-8 in a token is U+FFFD there, and in all other tables and graphs that are made for other programs.

        Examples
        --------
        >>> import attngraph as ag
        >>> ag.from_matrix([[1.0, 0.0], [0.25, 0.75]], threshold=0.5).to_pandas().shape  # doctest: +NEEDS(pandas)
        (2, 6)
        """
        pandas = optional("pandas", "to_pandas")
        edges, words = self.edges, self._words
        columns = {name: edges[name] for name in edges.columns if not name.endswith("_token")}
        if words.there:
            texts, codes = np.unique(np.array(words.plain[:-1], dtype=object), return_inverse=True)
            codes = np.append(codes, -1)  # no word
            for name in ("query_token", "key_token"):
                columns[name] = pandas.Categorical.from_codes(codes[edges._word_places(name)], categories=texts)
        return pandas.DataFrame(columns)

    def to_polars(self) -> polars.DataFrame:
        """The table of edges as a polars DataFrame, through Arrow.

        Examples
        --------
        >>> import attngraph as ag
        >>> ag.from_matrix([[1.0, 0.0], [0.25, 0.75]], threshold=0.5).to_polars().shape  # doctest: +NEEDS(polars)
        (2, 6)
        """
        return optional("polars", "to_polars").DataFrame(self.edges)

    def to_arrow(self) -> pyarrow.Table:
        """The table of edges as a pyarrow Table; key and weight stay where they are.

        Examples
        --------
        >>> import attngraph as ag
        >>> ag.from_matrix([[1.0, 0.0], [0.25, 0.75]], threshold=0.5).to_arrow().num_rows  # doctest: +NEEDS(pyarrow)
        2
        """
        return optional("pyarrow", "to_arrow").table(self.edges)

    def to_parquet(self, path: Path, partition_by: str | Sequence[str] | None = None) -> None:
        """Write the table of edges as Parquet: one file, or a folder partitioned by columns, ``layer=0/head=3/...``.

        Examples
        --------
        >>> import attngraph as ag, os, tempfile
        >>> folder = os.path.join(tempfile.mkdtemp(), "edges")
        >>> g = ag.from_matrix([[1.0, 0.0], [0.25, 0.75]], threshold=0.5)
        >>> g.to_parquet(folder, partition_by=["layer", "head"])  # doctest: +NEEDS(pyarrow)
        >>> os.listdir(folder)  # doctest: +NEEDS(pyarrow)
        ['layer=0']
        """
        optional("pyarrow", "to_parquet")
        if partition_by is None:
            parquet = optional("pyarrow.parquet", "to_parquet", "pyarrow")
            path = _values.path(path)
            unfinished = f"{path}.{os.getpid()}.tmp"
            try:
                parquet.write_table(self.to_arrow(), unfinished)
                os.replace(unfinished, path)
            finally:
                if os.path.exists(unfinished):
                    os.unlink(unfinished)
            return
        dataset = optional("pyarrow.dataset", "to_parquet", "pyarrow")
        by = [partition_by] if isinstance(partition_by, str) else _values.listed(partition_by, "partition_by")
        unknown = [name for name in by if not isinstance(name, str) or name not in ("batch", "layer", "head")]
        if unknown or not by:
            raise ArgumentError(f"partition_by is {partition_by!r}; it names batch, layer or head")
        table = self.to_arrow()
        layout = dataset.partitioning(table.select(by).schema, flavor="hive")
        slices = len({tuple(s[("batch", "layer", "head").index(name)] for name in by) for s in self.slices})
        dataset.write_dataset(
            table,
            _values.path(path),
            format="parquet",
            partitioning=layout,
            max_partitions=max(slices, 1),
            existing_data_behavior="delete_matching",
        )

    # ------------------------------------------------------------------------------------------------------------
    # graphs

    def to_scipy(self, layer: int = 0, head: int = 0, batch: int = 0) -> scipy.sparse.csr_array:
        """One slice as ``scipy.sparse.csr_array`` [query, key]; keys and weights stay where they are.

        Examples
        --------
        >>> import attngraph as ag
        >>> g = ag.from_matrix([[1.0, 0.0], [0.25, 0.75]], threshold=0.5)
        >>> g.to_scipy().toarray().tolist()  # doctest: +NEEDS(scipy)
        [[1.0, 0.0], [0.0, 0.75]]
        """
        sparse = optional("scipy.sparse", "to_scipy", "scipy")
        s = self._slices[self._place(layer, head, batch)]
        indptr, indices, data = self.csr(layer, head, batch)
        rows = s.query_begin + s.query_count
        if s.query_begin > 0:  # rows are queries, so those before the first are empty
            indptr = np.concatenate([np.zeros(s.query_begin, np.int64), indptr])
        if s.edge_count <= np.iinfo(np.int32).max:
            indptr = indptr.astype(np.int32)  # SciPy wants one type for both, and would copy the keys
        return sparse.csr_array((data, indices, indptr), shape=(rows, s.key_count), copy=False)

    def to_networkx(self, direction: Direction = "query_to_key", force: bool = False) -> networkx.MultiDiGraph:
        """All edges as a ``networkx.MultiDiGraph``.

        Nodes are positions (query i stands at ``i + query_offset``), with the attribute token where it is known; names
        like "b1_5", "b1_q5" and "b1_k5" where every sequence has its own words, or queries and keys are different
        sequences. Edges have the key (batch, layer, head) and the attribute weight. More than a million edges are refused without `force`: networkx takes about a
        kilobyte for each.

        Examples
        --------
        >>> import attngraph as ag
        >>> g = ag.from_matrix([[1.0, 0.0], [0.25, 0.75]], threshold=0.2)
        >>> g.to_networkx().edges[1, 0, (0, 0, 0)]["weight"]  # doctest: +NEEDS(networkx)
        0.25
        """
        networkx = optional("networkx", "to_networkx")
        if len(self) > _NETWORKX_EDGES and not force:
            raise LimitError(
                f"the graph has {len(self):,} edges, and networkx is made for fewer than {_NETWORKX_EDGES:,}; "
                "filter it, or give force=True"
            )
        edges = self.edges
        columns = {name: edges[name].tolist() for name in ("batch", "layer", "head", "weight")}
        nodes, source, target = _nodes(self, edges, direction)
        out = networkx.MultiDiGraph()
        out.add_nodes_from(nodes)
        labels = zip(columns["batch"], columns["layer"], columns["head"])
        out.add_edges_from(
            (a, b, label, {"weight": weight})
            for a, b, label, weight in zip(source, target, labels, columns["weight"])
        )
        return out

    def to_graphistry(self, direction: Direction = "query_to_key") -> Any:
        """A graphistry plotter with these edges (src, dst, weight, layer, head) and nodes (id, token).

        Nothing leaves the machine: only calling ``.plot()`` on the answer uploads, and that is up to the caller.

        Examples
        --------
        >>> import attngraph as ag
        >>> g = ag.from_matrix([[1.0, 0.0], [0.25, 0.75]], threshold=0.5)
        >>> g.to_graphistry()._source  # doctest: +NEEDS(graphistry)
        'src'
        """
        graphistry = optional("graphistry", "to_graphistry")
        pandas = optional("pandas", "to_graphistry")
        table = self.edges
        nodes, source, target = _nodes(self, table, direction)
        edges = pandas.DataFrame(
            {
                "src": source,
                "dst": target,
                "weight": table["weight"],
                "batch": table["batch"],
                "layer": table["layer"],
                "head": table["head"],
            }
        )
        nodes = pandas.DataFrame(
            {"id": [name for name, _ in nodes], "token": [facts.get("token", str(name)) for name, facts in nodes]}
        )
        plotter = graphistry.edges(edges, "src", "dst").nodes(nodes, "id")
        return plotter.bind(edge_weight="weight", point_title="token")

    # ------------------------------------------------------------------------------------------------------------
    # files, written by the library: whole or not at all

    def save(self, path: Path, *, rows: bool = True) -> None:
        """Write npz or safetensors, by suffix: all that `load` needs to make the same graph.

        Examples
        --------
        >>> import attngraph as ag, os, tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "graph.safetensors")
        >>> ag.from_matrix([[1.0]]).save(path)
        >>> len(ag.load(path))
        1
        """
        kind = os.path.splitext(_values.path(path))[1].lstrip(".").lower()
        if kind not in formats(_native.FORMAT_WHOLE):
            raise ArgumentError(f"the name ends with {kind!r}; a saved graph is .{' or .'.join(formats(_native.FORMAT_WHOLE))}")
        self._write(path, kind, rows=rows)

    def to_npz(self, path: Path, *, rows: bool = True) -> None:
        """Write NumPy's npz: offsets, keys, weights, a table of slices, and facts.

        Examples
        --------
        >>> import attngraph as ag, os, tempfile
        >>> ag.from_matrix([[1.0]]).to_npz(os.path.join(tempfile.mkdtemp(), "graph.npz"))
        """
        self._write(path, "npz", rows=rows)

    def to_safetensors(self, path: Path, *, rows: bool = True) -> None:
        """Write safetensors: the same arrays as `to_npz`.

        Examples
        --------
        >>> import attngraph as ag, os, tempfile
        >>> ag.from_matrix([[1.0]]).to_safetensors(os.path.join(tempfile.mkdtemp(), "graph.safetensors"))
        """
        self._write(path, "safetensors", rows=rows)

    def to_csv(self, path: Path, *, labels: bool | None = None, raw: bool = False, rows: bool = False) -> None:
        """Write CSV, with query_token and key_token when there are tokens (or as `labels` says).

        Cells that a spreadsheet would run as formulas get a leading ``'`` unless `raw`. `rows` writes the statistics of
        the rows into a second file, NAME.rows.csv.

        Examples
        --------
        >>> import attngraph as ag, os, tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "edges.csv")
        >>> ag.from_matrix([[0.5]]).to_csv(path)
        >>> open(path).read()
        'batch,layer,head,query,key,weight\\n0,0,0,0,0,0.5\\n'
        """
        self._write(path, "csv", labels=labels, raw=raw, rows=rows)

    def to_jsonl(self, path: Path, *, labels: bool | None = None, rows: bool = False) -> None:
        """Write one JSON object per edge and line.

        Examples
        --------
        >>> import attngraph as ag, os, tempfile
        >>> ag.from_matrix([[0.5]]).to_jsonl(os.path.join(tempfile.mkdtemp(), "edges.jsonl"))
        """
        self._write(path, "jsonl", labels=labels, rows=rows)

    def to_graphml(self, path: Path, *, direction: Direction = "query_to_key") -> None:
        """Write GraphML, for Gephi, Cytoscape and networkx.

        Examples
        --------
        >>> import attngraph as ag, os, tempfile
        >>> ag.from_matrix([[0.5]]).to_graphml(os.path.join(tempfile.mkdtemp(), "edges.graphml"))
        """
        self._write(path, "graphml", direction=direction)

    def to_dot(self, path: Path, *, direction: Direction = "query_to_key") -> None:
        """Write DOT, for Graphviz.

        Examples
        --------
        >>> import attngraph as ag, os, tempfile
        >>> ag.from_matrix([[0.5]]).to_dot(os.path.join(tempfile.mkdtemp(), "edges.dot"))
        """
        self._write(path, "dot", direction=direction)

    def _write(self, path, kind, *, direction="query_to_key", labels=None, raw=False, rows=False):
        if labels is None:
            labels = self._words.there and kind in formats(_native.FORMAT_LABELS)
        key_to_query = _ends(direction)[0] == "key"
        flags = (_values.flag(value, name) for name, value in (("labels", labels), ("raw", raw), ("rows", rows)))
        sink = _native.Sink.file(_values.path(path), kind, key_to_query, *flags)
        self._result.write(sink)
        sink.finish()


def formats(ability):
    """The names of the formats of graph files that have an ability."""
    return [name for name, abilities in _native.formats().items() if abilities & ability]


def _nodes(graph, edges, direction):
    """[(name, attributes)] of the nodes, and the names where every edge begins and ends.

    A node is a position, the same for all sequences, unless each has words of its own; and the same for queries and
    keys, unless these are different sequences. Then it has a name like those in files: b1_5, b1_q5, b1_k5.
    """
    words, plain, ends = graph._words, graph._words.plain, _ends(direction)
    two_sided, apart = graph._result.two_sided(), len(lists_of(graph._result, False)) > 1
    if not two_sided and not apart:
        count = graph._positions()
        places = words.places("key", np.zeros(count, np.int64), np.arange(count))
        nodes = [
            (position, {} if place == len(plain) - 1 else {"token": plain[place]})
            for position, place in enumerate(places.tolist())
        ]
        return nodes, *(edges._positions(f"{end}_token").tolist() for end in ends)
    nodes, names = {}, {}
    for end in ("query", "key"):
        side = end[0] if two_sided else ""
        positions = edges[end] if two_sided else edges._positions(f"{end}_token")
        places = words.places(end, edges["batch"], edges[end])
        names[end] = [f"b{b}_{side}{i}" for b, i in zip(edges["batch"].tolist(), positions.tolist())]
        for name, b, i, place in zip(names[end], edges["batch"].tolist(), positions.tolist(), places.tolist()):
            if name not in nodes:
                nodes[name] = {"batch": b, "position": i, **({"side": end} if two_sided else {})}
                if place < len(plain) - 1:
                    nodes[name]["token"] = plain[place]
    return list(nodes.items()), *(names[end] for end in ends)


def _ends(direction):
    _values.one_of(direction, "direction", "query_to_key", "key_to_query")
    return ("query", "key") if direction == "query_to_key" else ("key", "query")
