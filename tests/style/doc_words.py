# SPDX-License-Identifier: Apache-2.0
"""What the documents name is in the tree: presets, scripts and their flags, folders, C and CMake names, Python names.

usage: doc_words.py [ROOT]

What needs the built command (its flags, its transcripts) is looked at by tests/cli/documents_test.py.
"""

import json
import re
import sys
from pathlib import Path

from source_style import NOT_OURS, source_files

PAGES = ("README.md", "CONTRIBUTING.md", "docs/*.md", "*/README.md")
PRESET = re.compile(r"--preset[ =]([\w-]+)")
SCRIPT = re.compile(r"(?<![\w/])(?:\./)?(scripts/[\w-]+)((?: +--?[\w-]+)*)")
NAME = re.compile(r"\b(?:ATTNGRAPH_[A-Z0-9_]*[A-Z0-9]|attngraph_[a-z0-9_]*[a-z0-9])\b(?!\*)")
PYTHON_NAME = re.compile(r"\bag\.(\w+)(?:\.(\w+))?")
MADE_UP = {"ATTNGRAPH_MACROS"}  # CONTRIBUTING.md: how macros are spelled


def pages(root):
    return [page for pattern in PAGES for page in sorted(root.glob(pattern)) if not NOT_OURS & set(page.parts)]


def presets_of(root):
    file = json.loads((root / "CMakePresets.json").read_text(encoding="utf-8"))
    return {preset["name"] for preset in file["configurePresets"] if not preset.get("hidden")}


def names_in_sources(root):
    """Every name of ours that some source file holds; those of scripts and CMake files too, but not what checks plant."""
    found = set()
    for path in source_files(root):
        if path.parent.name == "style":
            continue
        found |= set(NAME.findall(path.read_text(encoding="utf-8")))
    found |= set(NAME.findall((root / "CMakePresets.json").read_text(encoding="utf-8")))
    return found


def python_names(root):
    """What `attngraph` and each of its modules show, read without importing them."""
    package = root / "python" / "attngraph"
    shown = set(re.findall(r'^ +"(\w+)",$', (package / "__init__.py").read_text(encoding="utf-8"), re.MULTILINE))
    modules = {path.stem: set(re.findall(r"^(?:def|class) (\w+)|^(\w+) *[=:]", path.read_text(encoding="utf-8"), re.MULTILINE))
               for path in package.glob("*.py")}  # fmt: skip
    return shown, {name: {word for pair in pairs for word in pair if word} for name, pairs in modules.items()}


def check(root):
    root = Path(root).resolve()
    presets, known = presets_of(root), names_in_sources(root) | MADE_UP
    shown, modules = python_names(root)
    problems, count = [], 0

    def look(page, text, match, problem):
        nonlocal count
        count += 1
        if problem:
            line = text.count("\n", 0, match.start()) + 1
            problems.append(f"{page.relative_to(root)}:{line}: {match.group(0).strip()}: {problem}")

    for page in pages(root):
        text = page.read_text(encoding="utf-8")
        for match in PRESET.finditer(text):
            look(page, text, match, None if match.group(1) in presets else "there is no such preset")
        for match in SCRIPT.finditer(text):
            script, flags = root / match.group(1), match.group(2).split()
            if not script.is_file():
                look(page, text, match, "there is no such script")
                continue
            usage = script.read_text(encoding="utf-8")
            missing = [flag for flag in flags if flag not in usage]
            look(page, text, match, f"the script has no {missing[0]}" if missing else None)
        for match in NAME.finditer(text):
            look(page, text, match, None if match.group(0) in known else "no source file has this name")
        for match in PYTHON_NAME.finditer(text):
            name, member = match.groups()
            problem = None if name in shown else "the package does not show it"
            if not problem and member and name in modules and member not in modules[name]:
                problem = f"attngraph/{name}.py has no {member}"
            look(page, text, match, problem)

    contributing = root / "CONTRIBUTING.md"
    table = set(re.findall(r"^\| `([\w-]+)` \|", contributing.read_text(encoding="utf-8"), re.MULTILINE))
    count += 1
    if table != presets:
        problems.append(f"CONTRIBUTING.md:1: presets in the table and in CMakePresets.json differ: {sorted(table ^ presets)}")

    layout = root / "docs" / "architecture.md"
    folders = set(re.findall(r"^    ([\w-]+)(?:/[\w-]+)?/ ", layout.read_text(encoding="utf-8"), re.MULTILINE))
    there = {path.name for path in root.iterdir() if path.is_dir() and path.name[0] != "." and path.name not in NOT_OURS}
    count += 1
    if folders != there:
        problems.append(f"docs/architecture.md:1: folders of 'Layout' and of the tree differ: {sorted(folders ^ there)}")
    return problems, count


def main():
    problems, count = check(sys.argv[1] if len(sys.argv) > 1 else ".")
    print(*problems, sep="\n", end="\n" if problems else "")
    print(f"{count} names, {len(problems)} wrong")
    return 1 if problems or count == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
