# SPDX-License-Identifier: Apache-2.0
"""The checks themselves: what is planted in a copy of the tree must be found, and nothing else.

usage: checks_test.py ROOT
"""

import shutil
import sys
import tempfile
import unittest
from pathlib import Path

import doc_links
import doc_words
import include_arrows
import source_style
import two_faces

ROOT = Path(".")


class Planted(unittest.TestCase):
    """A copy of the sources and pages, to plant in; what is planted is taken out again."""

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.root = Path(folder.name).resolve() / "tree"
        shutil.copytree(ROOT, cls.root, ignore=shutil.ignore_patterns("build", ".git", ".venv", "data", "__pycache__"))

    def plant(self, path, text):
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def new_problems(self, check, plants):
        """What one look says of each planted file, of (path, text) with "planted" in its path; the tree has tests of its own."""
        paths = [path.replace("planted", f"planted{n}") for n, (path, _) in enumerate(plants)]
        for path, (_, text) in zip(paths, plants):
            self.plant(path, text)
        problems = check(self.root)[0]
        for path in paths:
            (self.root / path).unlink()
        return [[line for line in problems if line.startswith(path + ":")] for path in paths]


class IncludeArrows(Planted):
    def found(self, arrows):
        return self.new_problems(
            include_arrows.check, [(path, f"// SPDX\n#include {include}\n") for path, include in arrows]
        )

    def test_wrong_arrows_are_found(self):
        arrows = [
            ("src/core/planted.hpp", '"../plan/plan.hpp"'),
            ("src/core/planted.hpp", '"plan/plan.hpp"'),
            ("src/plan/planted.cpp", '"../backend/backend.hpp"'),
            ("src/cpu/planted.cpp", '"../reference/rows.hpp"'),
            ("src/reference/planted.cpp", '"../graph/edge_list.hpp"'),
            ("src/graph/planted.cpp", '"../io/graph_file.hpp"'),
            ("src/cli/planted.cpp", '"../core/error.hpp"'),
            ("include/attngraph/planted.h", '"../../src/core/dtype.hpp"'),
            ("src/core/planted.cpp", "<attngraph/attngraph.h>"),
        ]
        for (path, include), problems in zip(arrows, self.found(arrows)):
            with self.subTest(path=path, include=include):
                self.assertEqual(len(problems), 1, problems)
                self.assertIn(":2: #include " + include, problems[0])

    def test_wrong_libraries_are_found(self):
        arrows = [
            ("src/core/planted.hpp", "<hwy/highway.h>"),
            ("src/plan/planted.hpp", "<cuda_runtime.h>"),
            ("src/cpu/planted.cpp", "<nlohmann/json.hpp>"),
            ("src/graph/planted.cpp", "<zlib.h>"),
            ("src/api/planted.cpp", "<CLI/CLI.hpp>"),
            ("src/cli/planted.cpp", "<gtest/gtest.h>"),
            ("include/attngraph/planted.hpp", "<fmt/format.h>"),
            ("include/attngraph/planted.h", "<unistd.h>"),
            ("src/io/planted.cpp", "<boost/json.hpp>"),
        ]
        for (path, include), problems in zip(arrows, self.found(arrows)):
            with self.subTest(path=path, include=include):
                self.assertEqual(len(problems), 1, problems)

    def test_right_arrows_pass(self):
        arrows = [
            ("src/core/planted.hpp", '"dtype.hpp"'),
            ("src/core/planted.hpp", "<vector>"),
            ("src/core/planted.hpp", "<fmt/format.h>"),
            ("src/cpu/planted.cpp", "<hwy/highway.h>"),
            ("src/cpu/planted.cpp", '"../backend/backend.hpp"'),
            ("src/cli/planted.cpp", "<attngraph/attngraph.hpp>"),
            ("tests/planted/planted_test.cpp", '"graph/edge_list.hpp"'),
            ("include/attngraph/planted.h", "<stdint.h>"),
        ]
        for (path, include), problems in zip(arrows, self.found(arrows)):
            with self.subTest(path=path, include=include):
                self.assertEqual(problems, [])

    def test_a_folder_without_a_row_and_a_missing_file_are_found(self):
        for problems in self.found([("src/attic/planted.cpp", "<vector>"), ("src/core/planted.cpp", '"gone.hpp"')]):
            self.assertEqual(len(problems), 1)


class SourceStyle(Planted):
    def test_faults_are_found(self):
        spdx = "// SPDX-License-Identifier: Apache-2.0\n"
        faults = ["int a;\n", spdx + "\tint a;\n", spdx + "int a; \n", spdx + "int a;", spdx + "int a;\n\n"]
        texts = [*faults, spdx + "int a;\n"]
        found = self.new_problems(source_style.check, [("src/core/planted.cpp", text) for text in texts])
        for text, problems in zip(faults, found):
            with self.subTest(text=text):
                self.assertEqual(len(problems), 1)
        self.assertEqual(found[-1], [])

    def test_scripts_without_suffix_count(self):
        found = self.new_problems(source_style.check, [("scripts/planted", "#!/bin/sh\ntrue\n")])
        self.assertEqual(len(found[0]), 1)


class TwoFaces(Planted):
    def test_a_call_without_a_face_is_found(self):
        call = "/* SPDX */\nATTNGRAPH_API const char*\nattngraph_{}(int32_t i);\n"
        found = self.new_problems(two_faces.check, [("include/attngraph/planted.h", call.format(n)) for n in ("gone", "version")])
        self.assertEqual([len(problems) for problems in found], [1, 0], found)


class Pages(Planted):
    def found(self, check, texts):
        return self.new_problems(check, [("docs/planted.md", text) for text in texts])

    def are_found(self, check, texts):
        for text, problems in zip(texts, self.found(check, texts)):
            with self.subTest(text=text):
                self.assertEqual(len(problems), 1, problems)


class DocLinks(Pages):
    def test_broken_links_are_found(self):
        self.are_found(
            doc_links.check,
            [
                "[gone](gone.md)",
                "[above](../../outside.md)",
                "[section](architecture.md#gone)",
                "see `src/core/gone.hpp`",
                "run `./scripts/gone --now`",
            ],
        )

    def test_links_that_hold_pass(self):
        text = "[a](architecture.md#rooms) [b](../LICENSE) [c](https://example.org) `src/core/` `build/release/attngraph`"
        self.assertEqual(self.found(doc_links.check, [text]), [[]])


class DocWords(Pages):
    def test_names_that_are_not_there_are_found(self):
        self.are_found(
            doc_words.check,
            [
                "    cmake --preset gone",
                "    ./scripts/gone",
                "    ./scripts/test --gone",
                "set `ATTNGRAPH_GONE`",
                "call `attngraph_gone()`",
                "call `ag.gone(x)`",
                "call `ag.transformers.gone(x)`",
            ],
        )

    def test_names_that_are_there_pass(self):
        text = "    ctest --preset release\n    ./scripts/test --full\n`ATTNGRAPH_OK` `attngraph_extract` `ag.transformers.capture`"
        self.assertEqual(self.found(doc_words.check, [text]), [[]])


if __name__ == "__main__":
    ROOT = Path(sys.argv.pop(1))
    unittest.main()
