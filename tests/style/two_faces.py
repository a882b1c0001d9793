# SPDX-License-Identifier: Apache-2.0
"""Every call of the C contract has its place in the C++ face of it, but for a few that C++ callers use as they are.

usage: two_faces.py [ROOT]
"""

import re
import sys
from pathlib import Path

AS_THEY_ARE = {
    "attngraph_status_name",  # words for numbers
    "attngraph_status_phrase",
    "attngraph_dtype_name",
    "attngraph_sink_set_tokens",  # C++ has set_labels for both sides
}


def check(root):
    folder = Path(root).resolve() / "include" / "attngraph"
    face = set(re.findall(r"\battngraph_\w+", (folder / "attngraph.hpp").read_text(encoding="utf-8")))
    problems, count = [], 0
    for path in sorted(folder.glob("*.h")):
        text = path.read_text(encoding="utf-8")
        for found in re.finditer(r"^ATTNGRAPH_API[^;(]*?(\battngraph_\w+)\(", text, re.MULTILINE):
            count += 1
            if (found[1] in face) == (found[1] in AS_THEY_ARE):
                line = text[: found.start(1)].count("\n") + 1
                wrong = "is in attngraph.hpp, and listed here as if not" if found[1] in face else "is not in attngraph.hpp"
                problems.append(f"{path.relative_to(folder.parents[1])}:{line}: {found[1]} {wrong}")
    return problems, count


def main():
    problems, count = check(sys.argv[1] if len(sys.argv) > 1 else ".")
    print(*problems, sep="\n", end="\n" if problems else "")
    print(f"{count} calls, {len(problems)} wrong")
    return 1 if problems or count == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
