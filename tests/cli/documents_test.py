# SPDX-License-Identifier: Apache-2.0
"""What documents and messages say of the command, held against the command: subcommands, flags, transcripts.

The environment has COMMAND, the built command, and SOURCE, the tree. Figures of speed and of this machine (seconds, threads,
instruction set) are not compared; everything else of a transcript is, line by line.
"""

import os
import re
import shlex
import subprocess
import tempfile
import unittest
from pathlib import Path

COMMAND = os.environ["COMMAND"]
ROOT = Path(os.environ["SOURCE"])
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FLAG = re.compile(r"(?<![\w-])--?[a-z][a-z-]*")
LONG_FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]+")


def output(*words, **more):
    done = subprocess.run([COMMAND, *words], stdout=subprocess.PIPE, encoding="utf-8", **more)
    if done.returncode != 0:
        raise AssertionError(f"{words}: exit {done.returncode}\n{done.stdout}")
    return done.stdout


def flags_of(*subcommand):
    """Those at the beginning of a line of --help, short and long."""
    text = output(*subcommand, "--help")
    return {flag for line in re.findall(r"^ +(-.*?)(?:  |$)", text, re.MULTILINE) for flag in FLAG.findall(line)} | {"--help"}


SUBCOMMANDS = set(re.findall(r"^  (\w+) ", output("--help").split("Subcommands:")[1], re.MULTILINE))
FLAGS = {name: flags_of(name) for name in SUBCOMMANDS}
EVERY_FLAG = set().union(*FLAGS.values()) | {"--version"}


def wrong_flags(text):
    """Of every `attngraph SUBCOMMAND ...` in code, what the command does not have."""
    wrong = []
    for line in re.findall(r"^(?:    |\$ )(.*)$", text, re.MULTILINE) + re.findall(r"`([^`\n]+)`", text):
        found = re.search(r"(?:^|/|\s)attngraph (\w+)(.*)", line)
        if not found or line.startswith(("import ", "from ")):
            continue
        name, rest = found.groups()
        if name not in SUBCOMMANDS:
            wrong.append(f"{line}: there is no subcommand {name}")
            continue
        words = [word for word in re.split(r"[\s|]+", rest.split("#")[0])]
        wrong += [f"{line}: no {word}" for word in words if re.fullmatch(r"--?[a-z][a-z-]*", word) and word not in FLAGS[name]]
    return wrong


def listed(*subcommand, after):
    """The names that a help text lists after some words."""
    text = " ".join(output(*subcommand, "--help").split())
    return re.findall(r"[\w.]+", re.search(rf"{after} ((?:[\w.]+, )+[\w.]+)", text)[1])


READ, WRITTEN = listed("convert", after="A graph:"), listed("extract", after="Output:")[:-1]
LISTS = [
    {suffix.lstrip(".") for suffix in WRITTEN},
    set(listed("extract", after="Who computes:")),
    set(listed("bench", after=r"--dtype TEXT:\{\S+\}")),
]


def own_lists(text):
    """String literals that name several formats of graphs, backends or dtypes: the library has these lists. (.npy names files
    of tensors.)"""
    literals = re.findall(r'"((?:[^"\\\n]|\\.)*)"', re.sub(r"//[^\n]*", "", text))
    return [t for t in literals if any(len(names & set(re.findall(r"\w+", t))) > 1 for names in LISTS) and ".npy" not in t]


# Which subcommands a source file speaks for: what it advises must be there in all of them. Any other file: in one of them.
SPEAKS_FOR = {
    "qk_source": {"extract", "plan", "sweep"},
    "matrix_source": {"filter", "sweep"},
    "source": {"extract", "filter", "plan", "sweep"},
    "heads": set(),  # says how the graph had to be made
    "part": set(),  # holds group, too
}


def wrong_advice(name, text):
    """Flags in the string literals of a source file that its subcommands do not have."""
    speakers = SPEAKS_FOR.get(name, {name} & SUBCOMMANDS)
    there = set.intersection(*(FLAGS[s] for s in speakers)) if speakers else EVERY_FLAG
    text = re.sub(r"//[^\n]*", "", text)
    return [flag for literal in re.findall(r'"((?:[^"\\\n]|\\.)*)"', text) for flag in LONG_FLAG.findall(literal) if flag not in there]


def transcripts(text):
    """(command, what it printed) of every ```console block."""
    for block in re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, printed = part.partition("\n")
            yield command, printed.rstrip("\n")


def without_speed(text):
    text = re.sub(r"\b\d+\.\d+ s\b", "T s", text)
    return re.sub(r"cpu on \w+, \d+ threads?", "cpu on TARGET, N threads", text)


class Documents(unittest.TestCase):
    def test_subcommands_and_flags_of_the_pages_are_there(self):
        for page in PAGES:
            with self.subTest(page=page.name):
                self.assertEqual(wrong_flags(page.read_text(encoding="utf-8")), [])

    def test_the_readme_names_every_subcommand(self):
        text = (ROOT / "README.md").read_text(encoding="utf-8")
        spoken = {name for name in SUBCOMMANDS if re.search(rf"`{name}`|attngraph {name}\b", text)}
        self.assertEqual(SUBCOMMANDS - spoken, set())

    def test_transcripts_are_what_the_command_prints(self):
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "data").symlink_to(ROOT / "data")
            environment = os.environ | {"COLUMNS": "78", "NO_COLOR": "1", "LC_ALL": "C.UTF-8"}
            count = 0
            for command, printed in transcripts((ROOT / "README.md").read_text(encoding="utf-8")):
                program, *words = shlex.split(command, comments=True)
                self.assertEqual(program, "attngraph")
                if "--open" in words:  # a browser's business
                    continue
                with self.subTest(command=command):
                    said = output(*words, cwd=folder, env=environment, stderr=subprocess.STDOUT)
                    self.assertEqual(without_speed(said.rstrip("\n")), without_speed(printed))
                count += 1
            self.assertGreaterEqual(count, 4)


    def test_the_formats_of_the_pages_are_those_of_the_command(self):
        """The table of docs/formats.md against the help, which the library's list makes."""
        text = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8").split("## Graphs out")[1].split("###")[0]
        rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| .")]
        self.assertEqual({name for row in rows for name in row[0].split(", ")}, set(WRITTEN))
        self.assertEqual({name for row in rows if row[2] != "no" for name in row[0].split(", ")}, set(READ))


class Messages(unittest.TestCase):
    def test_no_message_advises_a_flag_that_is_not_there(self):
        for file in sorted((ROOT / "src" / "cli").glob("*.cpp")):
            with self.subTest(file=file.name):
                self.assertEqual(wrong_advice(file.stem, file.read_text(encoding="utf-8")), [])

    def test_the_command_keeps_no_list_that_the_library_has(self):
        self.assertGreaterEqual(min(map(len, LISTS)), 4)
        for file in sorted((ROOT / "src" / "cli").glob("*.cpp")):
            self.assertEqual(own_lists(file.read_text(encoding="utf-8")), [], file.name)

    def test_the_library_names_no_flags(self):
        for file in sorted((ROOT / "src").rglob("*.cpp")):
            if file.parent.name != "cli":
                literals = re.findall(r'"((?:[^"\\\n]|\\.)*)"', re.sub(r"//[^\n]*", "", file.read_text(encoding="utf-8")))
                self.assertEqual([text for text in literals if LONG_FLAG.search(text)], [], file.name)


class Planted(unittest.TestCase):
    def test_what_is_not_there_is_found(self):
        self.assertEqual(len(wrong_flags("    attngraph extract a.npy --gone\n")), 1)
        self.assertEqual(len(wrong_flags("`attngraph gone a.npy`")), 1)
        self.assertEqual(wrong_flags("`attngraph extract FILE -t 0.1 --explain`"), [])
        self.assertEqual(wrong_advice("filter", 'fail("give --scale")'), ["--scale"])
        self.assertEqual(wrong_advice("qk_source", 'fail("give --scale"); // --gone'), [])

        for literal in ("A graph: .npz or .csv", "reference, cpu", "f16 or f32"):
            self.assertEqual(own_lists(f'x("{literal}", "a .csv");'), [literal])

    def test_a_transcript_is_compared_but_for_its_speed(self):
        text = "```console\n$ attngraph top e.npz\nfirst  1\ncpu on AVX2, 1 thread, 3.14 s\n```\n"
        self.assertEqual(list(transcripts(text)), [("attngraph top e.npz", "first  1\ncpu on AVX2, 1 thread, 3.14 s")])
        self.assertEqual(without_speed("cpu on AVX2, 1 thread, 3.14 s"), without_speed("cpu on AVX512, 8 threads, 0.10 s"))


if __name__ == "__main__":
    unittest.main()
