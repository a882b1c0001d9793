# SPDX-License-Identifier: Apache-2.0
"""Every #include of the tree against the table "Rooms" of docs/architecture.md.

usage: include_arrows.py [ROOT]

A room is a folder; what it may include stands in its row of the table, so the page and the check cannot differ. An
include is an arrow to a room of the project, to the standard library (always allowed in the language it belongs to), or
to a library that the row names. Prints one line per wrong arrow and exits with 1 when there is one.
"""

import re
import sys
from pathlib import Path

SUFFIXES = {".h", ".hpp", ".c", ".cpp", ".cu", ".cuh"}

# Which header belongs to which word of the column "Libraries".
LIBRARIES = {
    "fmt": r"fmt/.*",
    "highway": r"hwy/.*",
    "zlib": r"zlib\.h|zconf\.h",
    "nlohmann-json": r"nlohmann/.*",
    "CLI11": r"CLI/.*",
    "googletest": r"g(test|mock)/.*",
    "google-benchmark": r"benchmark/.*",
    "openblas": r"cblas\.h|openblas.*\.h",
    "nanobind": r"nanobind/.*",
    "ggml": r"ggml(-\w+)?\.h|llama\.h",
    "mpi": r"mpi\.h",
    "cuda": r"cuda.*|cub/.*|thrust/.*|cooperative_groups.*|cublas.*|nv/.*",
    "posix": r"(sys|arpa|netinet|linux)/.*\.h|(unistd|fcntl|dirent|malloc|pthread|sched|dlfcn|poll|termios|strings|ftw|glob|ucontext|spawn)\.h",
    "intrinsics": r"(\w*mmintrin|immintrin|arm_\w+|cpuid)\.h",
}
C_HEADERS = {
    "assert", "complex", "ctype", "errno", "fenv", "float", "inttypes", "iso646", "limits", "locale", "math", "setjmp",
    "signal", "stdalign", "stdarg", "stdatomic", "stdbool", "stddef", "stdint", "stdio", "stdlib", "stdnoreturn",
    "string", "tgmath", "threads", "time", "uchar", "wchar", "wctype",
}  # fmt: skip
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(?:<([^>]+)>|"([^"]+)")', re.MULTILINE)


class Room:
    """One row of the table: a folder, the rooms and single files it may include, and the libraries."""

    def __init__(self, folder, rooms, libraries):
        self.folder, self.rooms, self.libraries = folder, rooms, libraries


def read_table(page):
    """Rooms by folder. The row `a`, `b` | `c` | x | stands for two rooms. "anything" allows every room."""
    text = page.read_text(encoding="utf-8")
    section = re.search(r"^## Rooms$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    if not section:
        raise SystemExit(f"{page}: there is no section '## Rooms'")
    rooms = {}
    for line in section.group(1).splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        folders = re.findall(r"`([^`]+)`", cells[0])
        if not line.startswith("|") or not folders:
            continue
        if len(cells) < 3:
            raise SystemExit(f"{page}: a row of 'Rooms' needs the columns room, may include, libraries: {line}")
        may = {"anything"} if cells[1] == "anything" else set(re.findall(r"`([^`]+)`", cells[1]))
        libraries = {word.strip() for word in cells[2].split(",")} - {"", "–"}
        unknown = libraries - LIBRARIES.keys()
        if unknown:
            raise SystemExit(f"{page}: unknown library {', '.join(sorted(unknown))}; known: {', '.join(LIBRARIES)}")
        for folder in folders:
            rooms[folder] = Room(folder, may, libraries)
    if not rooms:
        raise SystemExit(f"{page}: the table 'Rooms' has no rows")
    return rooms


def room_of(path, rooms):
    """The innermost room whose folder holds the path (relative to the root)."""
    for parent in path.parents:
        if parent.as_posix() in rooms:
            return rooms[parent.as_posix()]
    return None


def resolve(root, source, name):
    """The project's file that an include names, relative to the root, or None."""
    for base in (source.parent, root / "src", root / "include", root / "tests"):
        candidate = (base / name).resolve()
        if candidate.is_file() and candidate.is_relative_to(root):
            return candidate.relative_to(root)
    return None


def wrong_arrow(room, target, rooms):
    other = room_of(target, rooms)
    if other is None:
        return f"{target} is in no room of the table"
    if other is room or "anything" in room.rooms or {other.folder, target.as_posix()} & room.rooms:
        return None
    allowed = ", ".join(sorted(room.rooms)) or "no other room"
    return f"{room.folder} may include {allowed}; not {target}"


def wrong_library(room, name):
    if re.fullmatch(r"[a-z_]+", name) or (name.endswith(".h") and name[:-2] in C_HEADERS):
        return None
    for word, pattern in LIBRARIES.items():
        if re.fullmatch(pattern, name):
            if word in room.libraries:
                return None
            return f"{room.folder} may use {', '.join(sorted(room.libraries)) or 'no library'}; not {word}"
    return "this library is not known to tests/style/include_arrows.py"


def check(root):
    root = Path(root).resolve()
    rooms = read_table(root / "docs" / "architecture.md")
    problems, count = [], 0
    tops = sorted({folder.split("/")[0] for folder in rooms})
    for source in sorted(path for top in tops for path in (root / top).rglob("*") if path.suffix in SUFFIXES):
        relative = source.relative_to(root)
        room = room_of(relative, rooms)
        if room is None:
            problems.append(f"{relative}: the file is in no room of docs/architecture.md")
            continue
        text = source.read_text(encoding="utf-8")
        for match in INCLUDE.finditer(text):
            count += 1
            system, quoted = match.groups()
            target = resolve(root, source, system or quoted)
            if target:
                problem = wrong_arrow(room, target, rooms)
            elif quoted:
                problem = "there is no such file"
            else:
                problem = wrong_library(room, system)
            if problem:
                line = text.count("\n", 0, match.start()) + 1
                problems.append(f"{relative}:{line}: #include {match.group(0).split('include', 1)[1].strip()}: {problem}")
    return problems, count


def main():
    problems, count = check(sys.argv[1] if len(sys.argv) > 1 else ".")
    print(*problems, sep="\n", end="\n" if problems else "")
    print(f"{count} includes, {len(problems)} wrong arrows")
    return 1 if problems or count == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
