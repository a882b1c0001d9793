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

ROOT = Path(".")


class Planted(unittest.TestCase):
    """A copy of the sources and pages, to plant in."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name).resolve() / "tree"
        shutil.copytree(
            ROOT, self.root, ignore=shutil.ignore_patterns("build", ".git", ".venv", "data", "__pycache__")
        )

    def plant(self, path, text):
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def new_problems(self, check, path, text):
        """What a check says of the planted file only: the tree has tests of its own."""
        self.plant(path, text)
        problems = [line for line in check(self.root)[0] if line.startswith(path + ":")]
        (self.root / path).unlink()
        return problems


class IncludeArrows(Planted):
    def found(self, path, include):
        return self.new_problems(include_arrows.check, path, f"// SPDX\n#include {include}\n")

    def test_wrong_arrows_are_found(self):
        for path, include in [
            ("src/core/planted.hpp", '"../plan/plan.hpp"'),
            ("src/core/planted.hpp", '"plan/plan.hpp"'),
            ("src/plan/planted.cpp", '"../backend/backend.hpp"'),
            ("src/cpu/planted.cpp", '"../reference/rows.hpp"'),
            ("src/reference/planted.cpp", '"../graph/edge_list.hpp"'),
            ("src/graph/planted.cpp", '"../io/graph_file.hpp"'),
            ("src/cli/planted.cpp", '"../core/error.hpp"'),
            ("include/attngraph/planted.h", '"../../src/core/dtype.hpp"'),
            ("src/core/planted.cpp", "<attngraph/attngraph.h>"),
        ]:
            with self.subTest(path=path, include=include):
                problems = self.found(path, include)
                self.assertEqual(len(problems), 1, problems)
                self.assertIn(":2: #include " + include, problems[0])

    def test_wrong_libraries_are_found(self):
        for path, include in [
            ("src/core/planted.hpp", "<hwy/highway.h>"),
            ("src/plan/planted.hpp", "<cuda_runtime.h>"),
            ("src/cpu/planted.cpp", "<nlohmann/json.hpp>"),
            ("src/graph/planted.cpp", "<zlib.h>"),
            ("src/api/planted.cpp", "<CLI/CLI.hpp>"),
            ("src/cli/planted.cpp", "<gtest/gtest.h>"),
            ("include/attngraph/planted.hpp", "<fmt/format.h>"),
            ("include/attngraph/planted.h", "<unistd.h>"),
            ("src/io/planted.cpp", "<boost/json.hpp>"),
        ]:
            with self.subTest(path=path, include=include):
                self.assertEqual(len(self.found(path, include)), 1)

    def test_right_arrows_pass(self):
        for path, include in [
            ("src/core/planted.hpp", '"dtype.hpp"'),
            ("src/core/planted.hpp", "<vector>"),
            ("src/core/planted.hpp", "<fmt/format.h>"),
            ("src/cpu/planted.cpp", "<hwy/highway.h>"),
            ("src/cpu/planted.cpp", '"../backend/backend.hpp"'),
            ("src/cli/planted.cpp", "<attngraph/attngraph.hpp>"),
            ("tests/planted/planted_test.cpp", '"graph/edge_list.hpp"'),
            ("include/attngraph/planted.h", "<stdint.h>"),
        ]:
            with self.subTest(path=path, include=include):
                self.assertEqual(self.found(path, include), [])

    def test_a_folder_without_a_row_and_a_missing_file_are_found(self):
        self.assertEqual(len(self.found("src/attic/planted.cpp", "<vector>")), 1)
        self.assertEqual(len(self.found("src/core/planted.cpp", '"gone.hpp"')), 1)


class SourceStyle(Planted):
    def found(self, path, text):
        return self.new_problems(source_style.check, path, text)

    def test_faults_are_found(self):
        spdx = "// SPDX-License-Identifier: Apache-2.0\n"
        for text in ["int a;\n", spdx + "\tint a;\n", spdx + "int a; \n", spdx + "int a;", spdx + "int a;\n\n"]:
            with self.subTest(text=text):
                self.assertEqual(len(self.found("src/core/planted.cpp", text)), 1)
        self.assertEqual(self.found("src/core/planted.cpp", spdx + "int a;\n"), [])

    def test_scripts_without_suffix_count(self):
        self.assertEqual(len(self.found("scripts/planted", "#!/bin/sh\ntrue\n")), 1)


class DocLinks(Planted):
    def found(self, text):
        return self.new_problems(doc_links.check, "docs/planted.md", text)

    def test_broken_links_are_found(self):
        for text in [
            "[gone](gone.md)",
            "[above](../../outside.md)",
            "[section](architecture.md#gone)",
            "see `src/core/gone.hpp`",
            "run `./scripts/gone --now`",
        ]:
            with self.subTest(text=text):
                self.assertEqual(len(self.found(text)), 1)

    def test_links_that_hold_pass(self):
        text = "[a](architecture.md#rooms) [b](../LICENSE) [c](https://example.org) `src/core/` `build/release/attngraph`"
        self.assertEqual(self.found(text), [])


class DocWords(Planted):
    def found(self, text):
        return self.new_problems(doc_words.check, "docs/planted.md", text)

    def test_names_that_are_not_there_are_found(self):
        for text in [
            "    cmake --preset gone",
            "    ./scripts/gone",
            "    ./scripts/test --gone",
            "set `ATTNGRAPH_GONE`",
            "call `attngraph_gone()`",
            "call `ag.gone(x)`",
            "call `ag.transformers.gone(x)`",
        ]:
            with self.subTest(text=text):
                self.assertEqual(len(self.found(text)), 1)

    def test_names_that_are_there_pass(self):
        text = "    ctest --preset release\n    ./scripts/test --full\n`ATTNGRAPH_OK` `attngraph_extract` `ag.transformers.capture`"
        self.assertEqual(self.found(text), [])


if __name__ == "__main__":
    ROOT = Path(sys.argv.pop(1))
    unittest.main()
