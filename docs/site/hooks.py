# SPDX-License-Identifier: Apache-2.0
"""What the site shows of the files beside docs/: README.md is its first page; other documents, and sources that documents
link to, are pages under the path that they have in the tree. Links between them are those of the files, rewritten."""

import os
import re
from pathlib import Path

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"(\]\()([^)\s]+)(\))")  # also that around a picture
FENCE = re.compile(r"(^```.*?^```)", re.MULTILINE | re.DOTALL)
DOCUMENTS = ["CONTRIBUTING.md", "CHANGELOG.md", "data/README.md", "cuda/README.md"]
AS_CODE = {".h": "c", ".c": "c", ".hpp": "cpp", ".cpp": "cpp"}
HEADERS = ["include/attngraph/attngraph.h", "include/attngraph/attngraph.hpp"]


def links(text):
    for part in FENCE.split(text)[::2]:
        for _, target, _ in LINK.findall(part):
            if not re.match(r"[a-z][a-z0-9+.-]*:", target):
                yield target


def place(path):
    """Where a file of the tree stands on the site, or None where it is in docs/ and stands there already."""
    path = path.relative_to(ROOT).as_posix()
    if path == "README.md":
        return "index.md"
    if path.startswith("docs/"):
        return path[5:]
    return f"{path}.md" if Path(path).suffix in AS_CODE else path


def as_page(path):
    text = path.read_text(encoding="utf-8")
    language = AS_CODE.get(path.suffix)
    name = path.relative_to(ROOT).as_posix()
    return text if language is None else f"# {path.name}\n\n`{name}`\n\n````{language}\n{text}\n````\n"


def on_files(files, config):
    documents = [ROOT / "README.md", *(ROOT / name for name in DOCUMENTS)]
    wanted = {*documents, *(ROOT / name for name in HEADERS)}
    for page in [*documents, *(ROOT / "docs").glob("*.md")]:
        for target in links(page.read_text(encoding="utf-8")):
            file = (page.parent / target.partition("#")[0]).resolve()
            if file.is_file() and file.is_relative_to(ROOT) and not file.is_relative_to(ROOT / "docs"):
                wanted.add(file)
    for file in sorted(wanted):
        if file.suffix == ".md" or file.suffix in AS_CODE:
            made = File.generated(config, place(file), content=as_page(file))
        else:
            made = File.generated(config, place(file), abs_src_path=str(file))
        made.of_the_tree = file
        files.append(made)
    return files


def on_page_markdown(markdown, page, config, files: Files):
    source = getattr(page.file, "of_the_tree", None) or ROOT / "docs" / page.file.src_uri
    if source.suffix in AS_CODE:
        return markdown
    here = os.path.dirname(page.file.src_uri)

    def moved(match):
        before, target, after = match.groups()
        if re.match(r"[a-z][a-z0-9+.-]*:|#", target):
            return match[0]
        path, mark, section = target.partition("#")
        file = (source.parent / path).resolve()
        if not file.exists() or not file.is_relative_to(ROOT):
            return match[0]  # the build says that it leads nowhere
        return before + os.path.relpath(place(file), here or ".") + mark + section + after

    parts = FENCE.split(markdown)
    return "".join(part if n % 2 else LINK.sub(moved, part) for n, part in enumerate(parts))
