# SPDX-License-Identifier: Apache-2.0
"""What the installed tree shows: headers that stand alone, symbols, SONAME, needs, run paths, pkg-config, versions.

The environment names the tree and the tools (see CMakeLists.txt).
"""

import os
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
PREFIX = Path(os.environ["PREFIX"])
LIBDIR = PREFIX / os.environ["LIBDIR"]
LIBRARY = LIBDIR / "libattngraph.so"
ABI = os.environ["ABI"]


def output(*command, **more):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **more)
    if done.returncode != 0:
        raise AssertionError(f"{command}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def dynamic(file, tag):
    """Values of one tag of the dynamic section: NEEDED, SONAME, RPATH, RUNPATH."""
    return re.findall(rf"\({tag}\).*\[(.*)\]", output(os.environ["READELF"], "-dW", file))


class InstalledTree(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def pkg_config(self, *words):
        environment = os.environ | {"PKG_CONFIG_PATH": str(LIBDIR / "pkgconfig")}
        return output(os.environ["PKG_CONFIG"], *words, "attngraph", env=environment).split()

    def test_public_headers_and_no_others_are_there(self):
        found = {path.relative_to(PREFIX / "include").as_posix() for path in (PREFIX / "include").rglob("*.*")}
        self.assertEqual(found, {f"attngraph/{name}" for name in ("attngraph.h", "attngraph.hpp", "export.h", "ggml.hpp", "version.h")})

    def test_each_header_compiles_alone(self):
        # ggml.hpp is for programs that have a ggml.h; the fixture of its tests stands for theirs.
        fixture = ["-isystem", HERE.parent / "ggml" / "fixture"]
        strict = ["-pedantic", "-Wall", "-Wextra", "-Wshadow", "-Wundef", "-Werror", "-fsyntax-only", "-I", PREFIX / "include"]
        for header in sorted((PREFIX / "include" / "attngraph").iterdir()):
            ways = [("CXX", "-std=c++20", "cpp")]
            if header.suffix == ".h":
                ways += [("CC", "-std=c99", "c"), ("CC", "-std=c17", "c"), ("CXX", "-std=c++11", "cpp")]
            for compiler, standard, suffix in ways:
                with self.subTest(header=header.name, standard=standard):
                    source = self.folder / f"alone.{suffix}"
                    include = f"#include <attngraph/{header.name}>\n"
                    source.write_text(include + include + "int main(void) { return 0; }\n", encoding="utf-8")
                    output(os.environ[compiler], standard, *strict, *fixture, source)

    def test_exported_symbols_are_the_declared_ones(self):
        listing = output(os.environ["NM"], "-D", "--defined-only", LIBRARY)
        exported = {line.split()[-1].split("@")[0] for line in listing.splitlines()}
        header = (PREFIX / "include" / "attngraph" / "attngraph.h").read_text(encoding="utf-8")
        declared = set(re.findall(r"ATTNGRAPH_API[^;(]*?(attngraph_\w+)\(", header))
        self.assertGreater(len(declared), 20)
        self.assertEqual(exported, declared)

    def test_soname_carries_the_abi_number(self):
        self.assertEqual(dynamic(LIBRARY, "SONAME"), [f"libattngraph.so.{ABI}"])
        self.assertTrue((LIBDIR / f"libattngraph.so.{ABI}").is_symlink())

    def test_the_library_needs_no_accelerator_and_no_openmp(self):
        needed = dynamic(LIBRARY, "NEEDED")
        self.assertEqual([name for name in needed if re.search(r"cuda|cublas|nv|gomp|omp|tbb|blas", name)], [])

    def test_the_cuda_plugin_needs_no_cuda_and_shows_one_symbol(self):
        plugin = LIBDIR / "libattngraph_cuda.so"
        if os.environ["CUDA"] != "ON":
            self.assertFalse(plugin.exists())
            self.skipTest("built without CUDA")
        allowed = {"libc.so.6", "libm.so.6", "libstdc++.so.6", "libgcc_s.so.1", "libpthread.so.0", "libdl.so.2", "librt.so.1"}
        allowed.update(dynamic(LIBRARY, "NEEDED"))  # which has opened it
        needed = {name for name in dynamic(plugin, "NEEDED") if not name.startswith("ld-linux")}
        self.assertEqual(needed - allowed, set())
        listing = output(os.environ["NM"], "-D", "--defined-only", plugin)
        self.assertEqual([line.split()[-1] for line in listing.splitlines()], ["attngraph_cuda_plugin"])
        self.assertEqual(dynamic(plugin, "RPATH") + dynamic(plugin, "RUNPATH"), [])

    def test_the_moved_command_finds_its_plugin(self):
        said = output(PREFIX / "bin" / "attngraph", "doctor", cwd="/")
        self.assertIn("backend cuda_streaming", said)
        self.assertEqual("there is no libattngraph_cuda.so" in said, os.environ["CUDA"] != "ON")

    def test_run_paths_lead_nowhere_but_to_the_tree_itself(self):
        self.assertEqual(dynamic(LIBRARY, "RPATH") + dynamic(LIBRARY, "RUNPATH"), [])
        command = PREFIX / "bin" / "attngraph"
        paths = dynamic(command, "RPATH") + dynamic(command, "RUNPATH")
        self.assertEqual([path for path in paths if not path.startswith("$ORIGIN/")], [])

    def test_the_command_runs_from_the_moved_tree(self):
        self.assertIn(os.environ["VERSION"], output(PREFIX / "bin" / "attngraph", "--version", cwd="/"))

    def test_licence_is_there(self):
        text = (PREFIX / "share" / "doc" / "attngraph" / "LICENSE").read_text(encoding="utf-8")
        self.assertIn("Apache License", text)

    def test_pkg_config_builds_c_and_cpp(self):
        self.assertEqual(self.pkg_config("--modversion"), [os.environ["VERSION"]])
        flags = self.pkg_config("--cflags", "--libs")
        for compiler, standard, source in [("CC", "-std=c99", "c/main.c"), ("CXX", "-std=c++20", "cpp/main.cpp")]:
            with self.subTest(source=source):
                program = self.folder / "stranger"
                output(os.environ[compiler], standard, "-pedantic", "-Wall", "-Werror", HERE / source, "-o", program, *flags)
                said = output(program, env={"LD_LIBRARY_PATH": str(LIBDIR)})
                self.assertIn(f"attngraph {os.environ['VERSION']}, 2 edges", said)

    def test_another_version_is_refused(self):
        major, minor, _ = (int(part) for part in os.environ["VERSION"].split("."))
        for version, found in [(f"{major}.{minor}", "1"), (f"{major}.{minor + 1}", "0"), (f"{major + 1}.0", "0")]:
            with self.subTest(version=version):
                (self.folder / "CMakeLists.txt").write_text(
                    "cmake_minimum_required(VERSION 3.16)\nproject(asks LANGUAGES CXX)\n"
                    f"find_package(attngraph {version} QUIET)\nmessage(STATUS \"found=${{attngraph_FOUND}}\")\n",
                    encoding="utf-8",
                )
                said = output(os.environ["CMAKE"], "-S", self.folder, "-B", self.folder / "b", f"-DCMAKE_PREFIX_PATH={PREFIX}")
                self.assertIn(f"found={found}", said)


if __name__ == "__main__":
    unittest.main()
