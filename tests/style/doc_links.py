# SPDX-License-Identifier: Apache-2.0
"""What the documents point to exists: links, their #sections, and `paths` in the text.

usage: doc_links.py [ROOT]

Looks at every Markdown file of the root, of docs/ and of the folders below that hold a README.
"""

import re
import sys
from pathlib import Path

NOT_OURS = {"build", ".git", ".venv", "__pycache__"}
LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def sections(text):
    """The anchors that a reader of Markdown makes of headings."""
    for heading in re.findall(r"^#+ +(.+)$", FENCE.sub("", text), re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def broken_link(root, page, target):
    if re.match(r"[a-z][a-z0-9+.-]*:", target):
        return None  # the web is not ours to check
    path, _, section = target.partition("#")
    file = (page.parent / path).resolve() if path else page
    if not file.exists() or not file.is_relative_to(root):
        return "there is no such file"
    if section and file.suffix == ".md" and section not in sections(file.read_text(encoding="utf-8")):
        return f"{file.name} has no section '#{section}'"
    return None


def broken_path(root, words):
    """`src/core/error.hpp` must exist; `build/release/attngraph` and `NAME.rows.EXT` are not ours to check."""
    path = words.split()[0].removeprefix("./").rstrip("/") if words.split() else ""
    top = path.split("/")[0]
    if "/" not in path or not re.fullmatch(r"[\w./-]+", path) or top in NOT_OURS or not (root / top).is_dir():
        return None
    return None if (root / path).exists() else "there is no such file"


def check(root):
    root = Path(root).resolve()
    problems, count = [], 0
    for page in sorted(root.rglob("*.md")):
        name = page.relative_to(root)
        if NOT_OURS & set(name.parts):
            continue
        text = page.read_text(encoding="utf-8")
        prose = FENCE.sub(lambda fence: re.sub(r"[^\n]", " ", fence.group()), text)
        found = [(match, broken_link(root, page, match.group(1))) for match in LINK.finditer(prose)]
        found += [(match, broken_path(root, match.group(1))) for match in CODE.finditer(prose)]
        count += len(found)
        for match, problem in found:
            if problem:
                problems.append(f"{name}:{text.count(chr(10), 0, match.start()) + 1}: {match.group(0)}: {problem}")
    return problems, count


def main():
    problems, count = check(sys.argv[1] if len(sys.argv) > 1 else ".")
    print(*problems, sep="\n", end="\n" if problems else "")
    print(f"{count} links and paths, {len(problems)} broken")
    return 1 if problems or count == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
