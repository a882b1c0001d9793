# SPDX-License-Identifier: Apache-2.0
"""Finished data sets: their index is read, their parts when they are asked for."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .. import _values
from .._making import concat, load, with_words
from ..errors import FormatError, NotFoundError
from ..graph import Graph
from ..records import SweepRow
from ..tables import Table
from . import _files, _manifest, _questions
from ._write import index_of


class Dataset:
    """What `open` gives: graphs of many documents, layers, heads and query ranges in a folder.

    Sums and counts come from the index; a graph is read, and its checksum compared, when it is asked for.

    Examples
    --------
    >>> import attngraph as ag, os, tempfile
    >>> folder = os.path.join(tempfile.mkdtemp(), "set")
    >>> writer = ag.dataset.create(folder, {"threshold": 0.5})
    >>> for doc, weights in enumerate([[[1.0, 0.0], [0.25, 0.75]], [[0.6, 0.4]]]):
    ...     entry = writer.write(ag.from_matrix(weights, threshold=0.5), "all", doc=doc)
    >>> made = ag.open(folder)
    >>> made.edge_count, made.slices["edges"].tolist(), made.graph(doc=1).edges["weight"].tolist()
    (3, [2, 1], [0.6])
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._manifest = _manifest.read_manifest(folder)
        self._entries = index_of(folder)
        self._order = sorted(self._entries)
        wanted = self._manifest["parts"]
        self.missing = [] if wanted is None else [name for name in wanted if ("0", name) not in self._entries]

    @property
    def parameters(self) -> dict[str, Any]:
        """How the graphs were made: what the data set was begun with."""
        return dict(self._manifest["parameters"])

    @property
    def docs(self) -> list[str]:
        """The documents, in order."""
        return list(dict.fromkeys(doc for doc, _ in self._order))

    @property
    def edge_count(self) -> int:
        """Number of edges, from the index."""
        return sum(s.edges for entry in self._entries.values() for s in entry.slices)

    @property
    def file_bytes(self) -> int:
        """Size of all parts, from the index."""
        return sum(facts["bytes"] for entry in self._entries.values() for facts in entry.files)

    def __repr__(self) -> str:
        table = self.slices
        rows = int(table["rows"].sum())
        mass = f"{100 * float((table['kept_mass'] * table['rows']).sum()) / rows:.1f} %" if rows else "nothing"
        counts = [(len(self.docs), "document"), (len(self._entries), "part")]
        words = ", ".join(f"{count:,} {word}{'' if count == 1 else 's'}" for count, word in counts)
        lost = f", {len(self.missing):,} parts missing" if self.missing else ""
        return f"<attngraph.Dataset: {words}, {self.edge_count:,} edges, {mass} of the mass kept{lost}>"

    @property
    def slices(self) -> Table:
        """One row for every (doc, batch, layer, head), from the index: queries, keys, edges, rows that have keys, and
        the mean mass that the edges of these rows hold."""
        sums: dict[tuple, list] = {}
        for doc, name in self._order:
            for s in self._entries[doc, name].slices:
                total = sums.setdefault((doc, *s[:3]), [0, 0, 0, 0, 0.0])
                total[0] += s.query_count
                total[1] = max(total[1], s.key_count)
                total[2] += s.edges
                total[3] += s.rows
                total[4] += s.kept_mass
        keys = sorted(sums)
        columns: dict[str, Any] = {"doc": np.array([key[0] for key in keys], dtype=str)}
        for place, name in enumerate(("batch", "layer", "head"), start=1):
            columns[name] = np.array([key[place] for key in keys], dtype=np.int64)
        for place, name in enumerate(("queries", "keys", "edges", "rows")):
            columns[name] = np.array([sums[key][place] for key in keys], dtype=np.int64)
        columns["kept_mass"] = np.array([sums[key][4] / sums[key][3] if sums[key][3] else 0.0 for key in keys])
        return Table(columns)

    # ------------------------------------------------------------------------------------------------------------
    # graphs

    def graph(self, layer: int | None = None, head: int | None = None, doc: Any = None) -> Graph:
        """The `Graph` of one layer and head, of one document; leave them out for all layers and heads.

        Only the parts that hold it are read.

        Raises
        ------
        NotFoundError
            When the data set has no such slice, or a part of it is missing.
        FormatError
            When a part was changed after it was written.
        """
        doc = self._doc(doc)
        layer = None if layer is None else _values.integer(layer, "layer")
        head = None if head is None else _values.integer(head, "head")
        entries = [
            entry
            for entry in (self._entries[key] for key in self._order if key[0] == doc)
            if any(layer in (None, s.layer) and head in (None, s.head) for s in entry.slices)
        ]
        if not entries:
            raise NotFoundError(f"{self.folder} has no layer {layer}, head {head} of document {doc!r}{self._lost()}")
        graphs = []
        for entry in entries:
            whole = self._read(entry)
            there = {(s.layer, s.head) for s in whole.slices}
            mine = {(a, b) for a, b in there if layer in (None, a) and head in (None, b)}
            graphs.append(whole if mine == there else whole.filter(heads=sorted(mine)))
        if doc == "0":
            self._require_all(layer, head)
        return self._labelled(graphs[0] if len(graphs) == 1 else concat(graphs))

    def parts(self, doc: Any = None) -> Iterator[tuple[str, str, Graph]]:
        """Every part as (doc, name, Graph), one in memory at a time; of one document, or of all."""
        for key in self._order:
            if doc is None or key[0] == self._doc(doc):
                yield (*key, self._labelled(self._read(self._entries[key])))

    def verify(self) -> None:
        """Read every file and compare its checksum; the error names the first that is missing or was changed."""
        for key in self._order:
            for facts in self._entries[key].files:
                _files.require_unchanged(self.folder, facts)
        if self.missing:
            raise NotFoundError(f"{self.folder} is not complete{self._lost()}")

    def _read(self, entry):
        path = _files.require_unchanged(self.folder, entry.files[0])
        graph = load(str(path))
        if [list(s) for s in _manifest.stored_slices(graph)] != [list(s) for s in entry.slices]:
            raise FormatError(f"{path} holds other slices than the index says")
        return graph

    def _labelled(self, graph):
        path = self.folder / _manifest.TOKENS
        if not path.exists():
            return graph
        return with_words(graph, _files.read_json(path))

    def _doc(self, doc):
        if doc is None:
            docs = self.docs
            if len(docs) == 1 or "0" in docs:
                return docs[0] if len(docs) == 1 else "0"
            raise NotFoundError(f"doc says which of {len(docs)} documents: {', '.join(map(repr, docs[:4]))}, ...")
        doc = _manifest.doc_text(doc)
        if doc not in self.docs:
            raise NotFoundError(f"{self.folder} has no document {doc!r}{self._lost()}")
        return doc

    def _lost(self):
        return f"; {len(self.missing)} parts are missing, {self.missing[0]} the first: resume=True makes them" if self.missing else ""

    def _require_all(self, layer, head):
        """No part of the slice may be missing. The names of parts say what they hold."""
        for name in self.missing:
            where = _manifest.held_by(name)
            if where is None or (layer in (None, where[0]) and (head is None or where[1] <= head <= where[2])):
                raise NotFoundError(f"part {name} of {self.folder} is missing; resume=True makes it")

    # ------------------------------------------------------------------------------------------------------------
    # questions

    def sweep(self, thresholds: Iterable[float]) -> list[SweepRow]:
        """Edges, kept mass and nodes of the whole for each threshold, one head in memory at a time."""
        wanted = [_values.number(t, f"thresholds[{place}]") for place, t in enumerate(thresholds)]
        return _questions.together_sweep((_questions.sweep_of(g, wanted) for _, g in self._wholes()), wanted)

    def top(self, n: int) -> Table:
        """The n heaviest edges of the whole, heaviest first: doc, batch, layer, head, query, key, weight."""
        n = _values.integer(n, "n", least=0)
        answers = (_questions.top_of(graph, n, doc) for doc, graph in self._wholes())
        return _questions.together_top(answers, n, self._ranks())

    def heads(self, *, window: int = 16) -> Table:
        """The table of heads (`Graph.heads`) of all documents; the graphs are those of ``stats="heads"``."""
        return _questions.together_heads(_questions.heads_of(g, window, doc) for doc, g in self._wholes())

    def _wholes(self):
        for doc, layer, head in self._units():
            yield doc, self.graph(layer, head, doc)

    def _units(self):
        """(doc, layer, head) of all graphs that can be asked alone, in order; layer and head None: the document is one
        part, and read once."""
        if self.missing:
            raise NotFoundError(f"{self.folder} is not complete{self._lost()}")
        units = []
        by_doc: dict[str, list] = {}
        for key in self._order:
            by_doc.setdefault(key[0], []).append(self._entries[key])
        for doc, entries in by_doc.items():
            if len(entries) == 1:
                units.append((doc, None, None))
            else:
                units += [(doc, *pair) for pair in sorted({(s.layer, s.head) for e in entries for s in e.slices})]
        return units

    def _ranks(self):
        return {doc: rank for rank, doc in enumerate(self.docs)}


def open(folder: str | os.PathLike[str]) -> Dataset:
    """Open a data set that `dataset.extract`, `dataset.create`, `ray.extract` or `ray.capture` wrote.

    The index is read, no part. A data set that is not finished opens too; ``missing`` names what it lacks.

    Raises
    ------
    NotFoundError
        When the folder holds none.
    UnsupportedError
        When another version wrote it; the message names both.

    Examples
    --------
    >>> import numpy as np, attngraph as ag, os, tempfile
    >>> rng = np.random.default_rng(0)
    >>> q, k = rng.standard_normal((2, 4, 256, 64)).astype(np.float32)
    >>> folder = os.path.join(tempfile.mkdtemp(), "set")
    >>> ag.dataset.extract(folder, q, k, threshold=0.05)
    <attngraph.Dataset: 1 document, 1 part, 2,031 edges, 19.7 % of the mass kept>
    >>> len(ag.open(folder).graph(layer=0, head=2))
    540
    """
    return Dataset(Path(_values.path(folder)))
