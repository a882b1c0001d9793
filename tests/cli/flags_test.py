# SPDX-License-Identifier: Apache-2.0
"""Every flag of the subcommands that make graphs, and a run that it changes: one without a row here is found.

The environment has COMMAND, the built command, and SOURCE, the tree.
"""

import os
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

COMMAND, DATA = os.environ["COMMAND"], Path(os.environ["SOURCE"]) / "data"
QK, MATRIX = DATA / "genesis-1k.safetensors", DATA / "genesis-256-weights.safetensors"
PART = ["--layers", "5", "--heads", "0,1", "--query-range", "500:530"]

# flag: (what both runs have, what the second has beside it)
SELECTION = {
    "--threshold": ([], ["0.2"]),
    "--top-k": ([], ["1"]),
    "--mass": ([], ["0.3"]),
    "--max-edges": ([], ["3"]),
    "--budget": ([], ["3"]),
    "--head-budget": ([], ["3"]),
    "--decision": (["-o", "e.npz"], ["certified"]),
    "--nonfinite": ([], ["never"]),  # the data have nothing that is not finite: tests/api has
    "--stats": (["-o", "e.npz"], ["entropy"]),
    "--query-offset": (["--causal"], ["-100"]),
    "--window": ([], ["2"]),
    "--causal": (["--query-offset", "0"], []),
    "--no-causal": ([], []),
    "--backend": (["--explain"], ["reference"]),
    "--threads": (["--explain"], ["3"]),
    "--device": ([], ["nowhere"]),
    "--workspace": ([], ["none"]),  # of a GPU: `plan` says what it does there
    "--quiet": ([], []),
    "--output": ([], ["other.csv"]),
    "--format": ([], ["jsonl"]),
    "--rows": ([], []),
    "--labels": ([], []),
    "--direction": (["-o", "e.dot"], ["key_to_query"]),
    "--csv-raw": (["--labels", "--tokens", "formulas.txt"], []),
    "--layers": ([], ["12"]),
    "--heads": ([], ["1"]),
    "--query-range": ([], ["100:110"]),
    "--tokens": (["--labels"], ["words.txt"]),
    "--query-tokens": (["--labels", "--tokens", "words.txt"], ["formulas.txt"]),
    "--explain": ([], []),
    "--help": ([], []),
}
EXTRACT = SELECTION | {
    "--q": (["--k", "k.5"], ["q.12"]),
    "--k": (["--q", "q.5"], ["k.12"]),
    "--layout": ([], ["bshd"]),
    "--scale": ([], ["1"]),
    "--softcap": ([], ["1"]),
    "--alibi": ([], ["0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5"]),
    "--products": (["--explain"], ["float"]),
    "--allow-dense": (["-t", "0"], []),
}
FILTER = SELECTION | {
    "--name": ([], ["nothing"]),
    "--leading": ([], ["neither"]),  # of four-dimensional matrices, which the sample has not
    "--decision": ([], ["neither"]),  # a ready matrix is decided exactly either way
}


def flags_of(subcommand):
    text = subprocess.run([COMMAND, subcommand, "--help"], stdout=subprocess.PIPE, encoding="utf-8").stdout
    lines = re.findall(r"^ +(-.*?)(?:  |$)", text, re.MULTILINE)
    return {next(word for word in re.findall(r"--?[a-z][a-z-]*", line)[::-1] if word.startswith("--")) for line in lines}


def outcome(*words):
    """Exit status, what it said (without times), and what it left behind."""
    with tempfile.TemporaryDirectory() as folder:
        for name, word in (("words.txt", "w"), ("formulas.txt", "=")):
            Path(folder, name).write_text("".join(f"{word}{n}\n" for n in range(1024 if "extract" in words else 256)))
        done = subprocess.run([COMMAND, *map(str, words)], capture_output=True, cwd=folder)
        left = {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.suffix != ".txt"}
    said = re.sub(rb"[\d.,]+ m?s\b|[\d.,]+ [KM]?i?B\b", b"", done.stderr)
    return done.returncode, done.stdout, said, left


class EveryFlag(unittest.TestCase):
    def check(self, subcommand, source, table):
        self.assertEqual(set(table), flags_of(subcommand), "a flag without a row, or a row without a flag")
        for flag, (both, value) in table.items():
            plain = [subcommand, source, *([] if "-o" in both else ["-o", "e.csv"]), *both]
            chosen = {word for word in (*both, flag)}
            if not chosen & {"--layers", "--heads", "--query-range", "--q", "--k"}:
                plain += PART if subcommand == "extract" else ["--heads", "0"]
            if subcommand == "filter" and flag != "--name":
                plain += ["--name", "softmax.12"]
            with self.subTest(flag):
                before, after = outcome(*plain), outcome(*plain, flag, *value)
                self.assertNotEqual(before, after)

    def test_of_extract(self):
        self.check("extract", QK, EXTRACT)

    def test_of_filter(self):
        self.check("filter", MATRIX, FILTER)


if __name__ == "__main__":
    unittest.main()
