# SPDX-License-Identifier: Apache-2.0
"""./scripts/demo, and the preset `release`, on a machine that has what `scripts/setup build` installs and nothing else.

bare.cmake hides what the project's files look for; PATH holds the programs of those packages only, so that no Python, no
nvcc and no compiler cache is found (the cache is named to CMake as an environment variable, as any user may). Packages
themselves are taken as installed: nothing here needs the network. The environment names the tools (see CMakeLists.txt).
"""

import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
# Of the base system; gcc and binutils; what the build packages add.
PROGRAMS = """bash sh env sed head tail mktemp rm mkdir nproc grep dirname cat tr sort uname
              ar as ld nm ranlib strip objcopy objdump readelf addr2line make pkg-config""".split()
STUBS = {
    "dpkg-query": "for word; do case $word in -*) ;; *) echo \"$word installed\" ;; esac; done",  # everything is there
    "apt-get": "echo 'nothing may be installed here' >&2; exit 1",
}


class BareMachine(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        programs = self.folder / "bin"
        programs.mkdir()
        for name in PROGRAMS:
            if path := shutil.which(name):
                (programs / name).symlink_to(path)
        for name, variable in {"cmake": "CMAKE", "ninja": "NINJA", "cc": "CC", "c++": "CXX"}.items():
            (programs / name).symlink_to(os.environ[variable])
        for name, body in STUBS.items():
            (programs / name).write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
            (programs / name).chmod(0o755)
        kept = {name: os.environ[name] for name in os.environ if name.startswith(("CCACHE_", "XDG_CACHE", "TMPDIR"))}
        self.environment = kept | {
            "PATH": str(programs),
            "HOME": os.environ.get("HOME", str(self.folder)),
            "CC": os.environ["CC"],
            "CXX": os.environ["CXX"],
            "CMAKE_TOOLCHAIN_FILE": str(HERE / "bare.cmake"),
        }
        if launcher := os.environ.get("LAUNCHER"):
            self.environment |= {"CMAKE_C_COMPILER_LAUNCHER": launcher, "CMAKE_CXX_COMPILER_LAUNCHER": launcher}

    def run_there(self, *command, has=()):
        environment = self.environment | {"ATTNGRAPH_BARE_HAS": ";".join(has)}
        done = subprocess.run(
            [str(word) for word in command], cwd=ROOT, env=environment, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, encoding="utf-8",
        )  # fmt: skip
        return done.returncode, done.stdout

    def configure(self, *settings, has=()):
        return self.run_there(
            "cmake", "--preset", "release", "-B", self.folder / "release", "-DATTNGRAPH_CUDA=OFF", *settings, has=has
        )

    def test_the_demo_shows_its_graph(self):
        folder = ROOT / "build"  # its build stands as deep as other builds, so that a compiler cache answers
        self.addCleanup(shutil.rmtree, folder / "build", ignore_errors=True)
        status, said = self.run_there(ROOT / "scripts" / "demo", folder)
        self.assertEqual(status, 0, said)
        self.assertIn("76,503 edges from 2 layers", said)
        edges = folder / "edges.csv"
        self.addCleanup(edges.unlink)
        with edges.open(encoding="utf-8") as table:
            self.assertTrue(next(table).startswith("batch,layer,head,query,key,weight"))

    def test_the_release_preset_names_the_tests_it_leaves_out(self):
        status, said = self.configure()
        self.assertEqual(status, 0, said)
        self.assertIn("Left out: the tests, for want of GoogleTest (scripts/setup installs it)", said)

    def test_tests_that_are_required_are_not_left_out(self):
        status, said = self.configure("-DATTNGRAPH_REQUIRE_TESTS=ON")
        self.assertNotEqual(status, 0, said)
        self.assertIn("for want of GoogleTest", said)

    def test_where_only_openblas_is_missing_the_emulated_gpu_is_left_out(self):
        headers = os.environ.get("CUDA_INCLUDE_DIR", "")
        if not os.path.exists(headers):
            self.skipTest("this machine has no CUDA headers, which the emulated GPU needs first")
        has = ("GTest", "Python3", "PKG_CONFIG", "ATTNGRAPH_OBJDUMP", "ATTNGRAPH_CUDA_INCLUDE_DIR")
        settings = (f"-DATTNGRAPH_CUDA_INCLUDE_DIR={headers}",)
        status, said = self.configure(*settings, has=has)
        self.assertEqual(status, 0, said)
        left_out = [line for line in said.splitlines() if "Left out:" in line and "examples/mpi" not in line]
        self.assertEqual(len(left_out), 1, said)
        self.assertIn("Left out: the emulated GPU, for want of OpenBLAS (scripts/setup installs it)", left_out[0])

    def test_without_a_compiler_one_sentence_names_all_that_is_missing(self):
        for name in ("cc", "c++"):
            (self.folder / "bin" / name).unlink()
        for name in ("CC", "CXX", "CMAKE_TOOLCHAIN_FILE"):
            del self.environment[name]
        for named in {}, {"CC": "gcc", "CXX": "g++ -pthread"}:  # as a user calls CMake, and as pip does
            self.environment.update(named)
            status, said = self.run_there("cmake", "-S", ROOT / "python", "-B", self.folder / "python", "-G", "Ninja")
            self.assertNotEqual(status, 0)
            self.assertRegex(" ".join(said.split()), r"needs a C\+\+20 compiler.*, which this machine lacks: apt-get install g\+\+")

    def test_libraries_that_are_missing_are_named_together(self):
        hidden = ("-DCMAKE_DISABLE_FIND_PACKAGE_fmt=ON", "-DCMAKE_DISABLE_FIND_PACKAGE_ZLIB=ON")
        status, said = self.configure(*hidden)
        self.assertNotEqual(status, 0)
        self.assertIn("needs fmt, ZLIB, which this machine lacks: apt-get install libfmt-dev zlib1g-dev", " ".join(said.split()))


if __name__ == "__main__":
    unittest.main()
