#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A plan decides and others obey: every field of a plan is read where work is done, every field of a device where plans
are made or shown. A field that nobody reads is a second opinion.

usage: fields_test.py ROOT
"""

from __future__ import annotations

import re
import sys
import unittest
from pathlib import Path

ROOT = Path(sys.argv.pop(1)) if len(sys.argv) > 1 else Path(__file__).resolve().parents[2]
SOURCES = (".cpp", ".hpp", ".cu", ".cuh")
# For people and for tests: printed by describe(), and held by tests/plan.
SHOWN = {"reason", "threads_reason", "product_reason", "row_edges_bound", "batches", "launches", "blocks"}


def text_of(*folders: str) -> str:
    files = [f for folder in folders for f in sorted((ROOT / folder).rglob("*")) if f.suffix in SOURCES]
    return "\n".join(f.read_text() for f in files)


def fields_of(header: str, struct: str) -> list[str]:
    body = re.search(rf"^struct {struct} {{\n(.*?)^}};", header, re.M | re.S).group(1)
    body = re.sub(r"//.*", "", body)
    names = []
    for declaration in body.split(";"):
        declaration = re.sub(r"=[^,]*", "", declaration).strip()
        if declaration:
            names += [part.split()[-1] for part in declaration.split(",")]
    return names


def is_read(name: str, text: str) -> bool:
    """`x.name` or `x->name`, but for what is only assigned to."""
    return any(not re.match(r"\s*=[^=]", text[found.end():]) for found in re.finditer(rf"(?:\.|->){name}\b", text))


class Fields(unittest.TestCase):
    header = (ROOT / "src/plan/plan.hpp").read_text()

    def test_are_found(self):
        self.assertIn("queries_per_chunk", fields_of(self.header, "CudaPlan"))
        self.assertIn("multiprocessors", fields_of(self.header, "DeviceInfo"))
        self.assertTrue(is_read("x", "f(a.x);") and is_read("x", "a->x == 1"))
        self.assertFalse(is_read("x", "a.x = 1; b.xy;"))

    def test_of_a_plan_are_obeyed(self):
        work = text_of("src/api", "src/cpu", "src/reference", "src/backend", "cuda")
        for struct in ("Plan", "CudaPlan"):
            for name in fields_of(self.header, struct):
                if name not in SHOWN:
                    self.assertTrue(is_read(name, work), f"{struct}::{name} is read by nobody who works")

    def test_for_people_are_shown_and_tested(self):
        shown, tested = (ROOT / "src/plan/plan.cpp").read_text(), text_of("tests/plan")
        describe = shown[shown.index("std::string describe("):]
        for name in SHOWN:
            self.assertTrue(is_read(name, describe), f"{name} is not printed")
            if name != "reason":
                self.assertTrue(is_read(name, tested), f"{name} is held by no test")

    def test_of_a_device_are_read(self):
        readers = text_of("src/plan", "src/api", "src/cli")
        for name in fields_of(self.header, "DeviceInfo"):
            self.assertTrue(is_read(name, readers), f"DeviceInfo::{name} is read by nobody")


if __name__ == "__main__":
    unittest.main()
