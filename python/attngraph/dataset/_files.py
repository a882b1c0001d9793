# SPDX-License-Identifier: Apache-2.0
"""Files that are there whole or not at all, and checksums by which they are known again."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import FormatError, NoSpaceError, NotFoundError, WriteError

_BLOCK = 1 << 20
UNFINISHED = "tmp"  # folder of what is being written, of one file system with the rest


def write_whole(folder: Path, name: str, write: Callable[[Path], None]) -> dict[str, Any]:
    """Let `write` fill a file that gets its name when it is complete and on the disk; what to know it again by.

    Whatever happens before that (a kill, a full disk) leaves what stood there. The same name may be written by several
    processes at once: one of them is the last.
    """
    place = folder / name
    unfinished = folder / UNFINISHED / f"{uuid.uuid4().hex}{place.suffix}"
    try:
        unfinished.parent.mkdir(exist_ok=True)
        place.parent.mkdir(parents=True, exist_ok=True)
        write(unfinished)
        facts = {"path": name, "bytes": unfinished.stat().st_size, "sha256": sha256(unfinished)}
        _sync(unfinished)
        os.replace(unfinished, place)
        _sync(place.parent)
        return facts
    except OSError as error:
        if isinstance(error, (NoSpaceError, WriteError)):
            raise
        kind = NoSpaceError if error.errno in (errno.ENOSPC, errno.EDQUOT) else WriteError
        raise kind(f"{place} was not written: {error.strerror or error}; what is finished stays, resume=True goes on") from error
    finally:
        unfinished.unlink(missing_ok=True)


def write_json(folder: Path, name: str, value: Any) -> None:
    text = json.dumps(value, indent=None, separators=(",", ":"), sort_keys=True)
    write_whole(folder, name, lambda path: path.write_text(text, encoding="utf-8"))


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise NotFoundError(f"{path} is not there") from None
    except ValueError as error:
        raise FormatError(f"{path} is no JSON: {error}") from None


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def require_unchanged(folder: Path, facts: dict[str, Any], contents: bool = True) -> Path:
    """The file that these facts are of; an error that names it when it is gone or another one."""
    path = folder / facts["path"]
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise NotFoundError(f"{path} is missing, but the index has it; resume=True makes it again") from None
    if size != facts["bytes"] or (contents and sha256(path) != facts["sha256"]):
        raise FormatError(
            f"{path} was changed after it was written: its bytes are not those that the index has a checksum of; delete "
            "it, and resume=True makes it again"
        )
    return path


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
