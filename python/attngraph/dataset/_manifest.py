# SPDX-License-Identifier: Apache-2.0
"""What a data set says of itself, and of each of its parts."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np

from .. import _native
from .._export import formats
from .._operations import parts as slices_of
from ..errors import ArgumentError, FormatError, NotFoundError, UnsupportedError
from ..graph import Graph
from ._files import read_json

FORMAT, VERSION = "attngraph-dataset", 1
MANIFEST, INDEX, TOKENS = "manifest.json", "index.json", "tokens.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


class Stored(NamedTuple):
    """One slice of one part, as the index has it."""

    batch: int
    layer: int
    head: int
    query_begin: int
    query_count: int
    key_count: int
    edges: int
    rows: int  # that have keys
    kept_mass: float  # summed over these rows


class Entry(NamedTuple):
    """A finished part: the graph and its tables."""

    doc: str
    name: str
    files: list[dict[str, Any]]  # path, bytes, sha256; the graph first
    slices: list[Stored]
    digest: str | None  # of what the part was made from, where that is not in the manifest

    def to_json(self) -> dict[str, Any]:
        return {**self._asdict(), "slices": [list(s) for s in self.slices]}


def entry_of(value: Any, path: Path) -> Entry:
    try:
        files = [{"path": str(f["path"]), "bytes": int(f["bytes"]), "sha256": str(f["sha256"])} for f in value["files"]]
        slices = [Stored(*s) for s in value["slices"]]
        if not files or any(".." in Path(f["path"]).parts or Path(f["path"]).is_absolute() for f in files):
            raise ValueError("a part has files, all inside the folder")
        return Entry(str(value["doc"]), str(value["name"]), files, slices, value["digest"])
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{path} is no index of a data set: {error!r}") from None


def doc_text(doc: Any) -> str:
    text = str(doc)
    if not text or len(quote(text, safe="")) > 200:
        raise ArgumentError(f"doc is {text[:60]!r}; it is a number or a text of 1 to 200 characters")
    return text


def doc_folder(doc: str) -> str:
    return "doc=" + quote(doc, safe="").replace(".", "%2E")


def part_name(name: str) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ArgumentError(f"the part's name is {name!r}; it is made of letters, digits, '.', '_' and '-'")
    return name


def index_name(doc: str, name: str) -> str:
    return f"index/{doc_folder(doc)}/{name}.json"


def stored_slices(graph: Graph) -> list[Stored]:
    found = []
    for s, _, rows in slices_of(graph):
        keyed = rows.max_key >= 0
        found.append(Stored(*s[:6], s.edge_count, int(keyed.sum()), float(rows.kept_mass[keyed].sum())))
    return found


def read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.exists():
        raise NotFoundError(f"{folder} is no data set: it has no {MANIFEST}")
    manifest = read_json(path)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise FormatError(f"{path} is no manifest of a data set")
    if manifest.get("format_version") != VERSION:
        raise UnsupportedError(
            f"{path} has format_version {manifest.get('format_version')}, written by attngraph "
            f"{manifest.get('attngraph')}; this is {_native.version()}, which reads {VERSION}"
        )
    if manifest.get("form") not in formats(_native.FORMAT_WHOLE) or not isinstance(manifest.get("parts"), (list, type(None))):
        raise FormatError(f"{path} is damaged: its form or its list of parts is none")
    return manifest


def require_same(old: dict[str, Any], new: dict[str, Any], folder: Path) -> None:
    """Only the same question may be resumed; the message names what is another."""
    for name in ("attngraph", "form", "tables"):
        if old.get(name) != new[name]:
            raise ArgumentError(f"{folder} was begun with {name} {old.get(name)!r}, not {new[name]!r}; write to another folder")
    before, now = old.get("parameters", {}), new["parameters"]
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            raise ArgumentError(
                f"{folder} was begun with another {name}: {_shown(before.get(name))}, not {_shown(now.get(name))}; write to "
                "another folder"
            )
    if old["parts"] != new["parts"]:
        raise ArgumentError(f"{folder} was begun with other parts; write to another folder")


def fingerprint(array: Any) -> dict[str, Any]:
    """What tells one array from another, whatever their strides."""
    array = np.asarray(array)
    digest = hashlib.blake2b(np.ascontiguousarray(array).reshape(-1).view(np.uint8), digest_size=16)
    return {"dtype": array.dtype.name, "shape": list(array.shape), "blake2b": digest.hexdigest()}


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "..."


_TASK = re.compile(r"layer-(\d+)\.heads-(\d+)-(\d+)\.queries-\d+-\d+")


def held_by(name: str) -> tuple[int, int, int] | None:
    """(layer, first head, last head) of a task's part (`Task.name`); None for a name that somebody chose."""
    found = _TASK.fullmatch(name)
    return None if found is None else (int(found[1]), int(found[2]), int(found[3]))
