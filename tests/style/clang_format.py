# SPDX-License-Identifier: Apache-2.0
"""C and C++ stand as .clang-format says. Exit status 77 (skipped) without clang-format 14: versions differ in taste.

usage: clang_format.py [ROOT]
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from source_style import source_files

VERSION = "14"
SUFFIXES = {".h", ".hpp", ".c", ".cpp", ".cu", ".cuh"}
SKIPPED = 77


def find_tool():
    for name in (f"clang-format-{VERSION}", "clang-format"):
        tool = shutil.which(name)
        if tool:
            text = subprocess.run([tool, "--version"], capture_output=True, text=True, check=True).stdout
            if re.search(rf"version {VERSION}\.", text):
                return tool
    return None


def main():
    root = Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
    tool = find_tool()
    if not tool:
        print(f"SKIPPED: clang-format {VERSION} is not installed (scripts/setup full installs it)")
        return SKIPPED
    files = [path for path in source_files(root) if path.suffix in SUFFIXES]
    result = subprocess.run([tool, "--dry-run", "-Werror", *files], cwd=root, capture_output=True, text=True)
    wrong = dict.fromkeys(re.findall(r"^(.+?):\d+:\d+: error:", result.stderr, re.MULTILINE))
    for name in wrong:
        print(f"{Path(name).relative_to(root)}: to be formatted: {Path(tool).name} -i")
    print(f"{len(files)} files, {len(wrong)} to be formatted by clang-format {VERSION}")
    if result.returncode != 0 and not wrong:
        print(result.stderr, end="")
    return 1 if result.returncode != 0 or not files else 0


if __name__ == "__main__":
    sys.exit(main())
