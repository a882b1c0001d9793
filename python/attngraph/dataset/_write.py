# SPDX-License-Identifier: Apache-2.0
"""Data sets in the making: a folder that any number of processes write parts into."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from .. import _native, _values
from .._export import formats
from .._optional import optional
from ..errors import ArgumentError, FormatError
from ..graph import Graph
from . import _files, _manifest
from ._manifest import Entry


class Writer:
    """What `create` gives. It can be pickled and sent to other processes; each writes parts of its own."""

    def __init__(self, folder: Path, form: str, tables: bool):
        self.folder, self._form, self._tables = folder, form, tables

    def write(self, graph: Graph, name: str, doc: Any = 0, digest: str | None = None) -> Entry:
        """Write a part. It counts from the moment its index entry has its name; that is the last thing that happens.

        Parameters
        ----------
        graph : Graph
            What the part holds; it may have any layers, heads and query ranges that no other part of `doc` has.
        name : str
            Of the part, within `doc`: letters, digits, '.', '_', '-'. A part of that name is replaced.
        doc : int or str
            Which document the graph is of: the first level of the folders.
        digest : str, optional
            Of what the part was made from; `finished` compares it.

        Raises
        ------
        NoSpaceError, WriteError
            Everything that was finished before stays.
        """
        if not isinstance(graph, Graph):
            raise ArgumentError(f"graph is {type(graph).__name__}; it is a Graph")
        doc, name = _manifest.doc_text(doc), _manifest.part_name(name)
        below = _manifest.doc_folder(doc)
        save = graph.to_npz if self._form == "npz" else graph.to_safetensors
        files = [_files.write_whole(self.folder, f"graphs/{below}/{name}.{self._form}", lambda path: save(str(path)))]
        if self._tables:
            parquet = optional("pyarrow.parquet", "tables=True", "pyarrow")
            for (layer, head), table in _tables_of(graph):
                files.append(
                    _files.write_whole(
                        self.folder,
                        f"edges/{below}/layer={layer}/head={head}/{name}.parquet",
                        lambda path, table=table: parquet.write_table(table, str(path)),
                    )
                )
        entry = Entry(doc, name, files, _manifest.stored_slices(graph), digest)
        _files.write_json(self.folder, _manifest.index_name(doc, name), entry.to_json())
        return entry

    def finished(self) -> dict[tuple[str, str], Entry]:
        """The parts that are there, by document and name. Files that are gone are not: they are made again. One that was
        changed in size is refused by name."""
        there = {}
        for key, entry in index_of(self.folder).items():
            if all((self.folder / facts["path"]).exists() for facts in entry.files):
                for facts in entry.files:
                    _files.require_unchanged(self.folder, facts, contents=False)
                there[key] = entry
        return there

    def finish(self) -> None:
        """Say that all parts are there: one index for all of them takes the place of one for each, and what killed
        processes left unfinished goes."""
        entries = index_of(self.folder)
        rows = [entries[key].to_json() for key in sorted(entries)]
        _files.write_json(self.folder, _manifest.INDEX, {"complete": True, "parts": rows})
        for left in ("index", _files.UNFINISHED):
            shutil.rmtree(self.folder / left, ignore_errors=True)


def create(
    folder: str | os.PathLike[str],
    parameters: dict[str, Any],
    *,
    parts: Sequence[str] | None = None,
    form: Literal["npz", "safetensors"] = "npz",
    tables: bool = False,
    resume: bool = False,
    tokens: Any = None,
) -> Writer:
    """Begin a data set, or go on with one.

    Parameters
    ----------
    folder : path
        New or empty, unless `resume`.
    parameters : dict
        How the graphs are made, as JSON holds it. To resume, they must be those that the data set was begun with.
    parts : sequence of str, optional
        Names of all parts, where they are known: then a reader can tell which are missing. They are of document 0.
    form : {"npz", "safetensors"}
        Of the graphs.
    tables : bool
        Write the edges as Parquet too, in folders ``doc=/layer=/head=``, for DuckDB, polars, Spark; needs pyarrow.
    resume : bool
        Go on with a data set that is there already (or begin one): what is finished stays.
    tokens : list, optional
        Labels of the keys, for all graphs of the data set.

    Examples
    --------
    >>> import attngraph as ag, os, tempfile
    >>> folder = os.path.join(tempfile.mkdtemp(), "set")
    >>> writer = ag.dataset.create(folder, {"threshold": 0.5})
    >>> entry = writer.write(ag.from_matrix([[1.0, 0.0], [0.25, 0.75]], threshold=0.5), "all", doc="a.txt")
    >>> writer.finish()
    >>> ag.open(folder)
    <attngraph.Dataset: 1 document, 1 part, 2 edges, 87.5 % of the mass kept>
    """
    folder = Path(_values.path(folder))
    _values.one_of(form, "form", *formats(_native.FORMAT_WHOLE))
    if tables:
        optional("pyarrow.parquet", "tables=True", "pyarrow")
    new = {
        "format": _manifest.FORMAT,
        "format_version": _manifest.VERSION,
        "attngraph": _native.version(),
        "form": form,
        "tables": bool(tables),
        "parameters": parameters,
        "parts": None if parts is None else [_manifest.part_name(name) for name in parts],
    }
    if (folder / _manifest.MANIFEST).exists():
        if not resume:
            raise ArgumentError(f"{folder} holds a data set already; resume=True goes on with it, or give another folder")
        _manifest.require_same(_manifest.read_manifest(folder), new, folder)
    else:
        if folder.exists() and any(entry.name != _files.UNFINISHED for entry in folder.iterdir()):
            raise ArgumentError(f"{folder} is not empty and holds no data set; give a new folder")
        folder.mkdir(parents=True, exist_ok=True)
        if tokens is not None:
            _files.write_json(folder, _manifest.TOKENS, tokens)
        _files.write_json(folder, _manifest.MANIFEST, new)
    return Writer(folder, form, bool(tables))


def index_of(folder: Path) -> dict[tuple[str, str], Entry]:
    """All finished parts: of the one index, and those that came after it."""
    entries = {}
    whole = folder / _manifest.INDEX
    if whole.exists():
        index = _files.read_json(whole)
        if not isinstance(index, dict) or not isinstance(index.get("parts"), list):
            raise FormatError(f"{whole} is no index of a data set")
        for row in index["parts"]:
            entry = _manifest.entry_of(row, whole)
            entries[entry.doc, entry.name] = entry
    for path in sorted(folder.glob("index/*/*.json")):
        entry = _manifest.entry_of(_files.read_json(path), path)
        entries[entry.doc, entry.name] = entry
    return entries


def _tables_of(graph):
    """The edges of every (layer, head) as an Arrow table, without the columns that folders stand for."""
    arrow = optional("pyarrow", "tables=True")
    whole = graph.to_arrow()
    whole = whole.drop_columns(["layer", "head"])
    found, begin = {}, 0
    for s in graph.slices:
        if s.edge_count:
            found.setdefault((s.layer, s.head), []).append(whole.slice(begin, s.edge_count))
        begin += s.edge_count
    for key, pieces in found.items():
        yield key, arrow.concat_tables(pieces)
