# SPDX-License-Identifier: Apache-2.0
"""Every source file names its licence, holds no tab and no blank at a line's end, and ends with one newline.

usage: source_style.py [ROOT]
"""

import sys
from pathlib import Path

SUFFIXES = {".h", ".hpp", ".c", ".cpp", ".cu", ".cuh", ".py", ".cmake", ".sh"}
NOT_OURS = {"build", ".git", ".venv", "__pycache__"}


def source_files(root):
    """Text that people write: by suffix, CMakeLists.txt, and every script that begins with #!."""
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root)
        if NOT_OURS & set(relative.parts) or not path.is_file():
            continue
        if path.suffix in SUFFIXES or path.name == "CMakeLists.txt":
            yield path
        elif path.suffix == "":
            with path.open("rb") as file:
                if file.read(2) == b"#!":
                    yield path


def check(root):
    root = Path(root).resolve()
    problems, count = [], 0
    for path in source_files(root):
        count += 1
        name = path.relative_to(root)
        text = path.read_text(encoding="utf-8")
        if not any("SPDX-License-Identifier: Apache-2.0" in line for line in text.splitlines()[:2]):
            problems.append(f"{name}:1: 'SPDX-License-Identifier: Apache-2.0' is missing from the first two lines")
        for number, line in enumerate(text.split("\n"), 1):
            if "\t" in line:
                problems.append(f"{name}:{number}: a tab")
            if line != line.rstrip():
                problems.append(f"{name}:{number}: blanks at the end of the line")
        if not text.endswith("\n") or text.endswith("\n\n"):
            problems.append(f"{name}: the file must end with exactly one newline")
    return problems, count


def main():
    problems, count = check(sys.argv[1] if len(sys.argv) > 1 else ".")
    print(*problems, sep="\n", end="\n" if problems else "")
    print(f"{count} files, {len(problems)} problems")
    return 1 if problems or count == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
