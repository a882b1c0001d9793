# SPDX-License-Identifier: Apache-2.0
"""examples/gguf.cpp, compiled against the headers and libraries of llama-cpp-python, says what llama_cpp.capture says."""

import shutil
import subprocess
from pathlib import Path

import pytest

llama_cpp = pytest.importorskip("llama_cpp")
from test_llama_cpp import smollm2  # noqa: E402, F401

import attngraph as ag  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
TEXT = "In the beginning God created the heaven and the earth. And the earth was without form, and void. " * 32


@pytest.fixture(scope="session")
def program(tmp_path_factory):
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("there is no C++ compiler")
    ours, theirs = Path(ag.__file__).parent, Path(llama_cpp.__file__).parent
    headers = theirs.parent / "include"
    if not (headers / "ggml.h").exists():
        pytest.skip("this llama-cpp-python has no headers")
    built = tmp_path_factory.mktemp("gguf") / "gguf"
    libraries = [str(path) for path in (next(ours.glob("libattngraph.so.*")), *(theirs / "lib").glob("lib*.so"))]
    wanted = [
        path
        for path in libraries
        if Path(path).name.split(".")[0] in ("libattngraph", "libllama", "libggml", "libggml-base")
    ]
    subprocess.run(
        [compiler, "-std=c++20", "-O1", "-Wall", "-Wextra", "-Wshadow", "-Werror", f"-I{ROOT / 'include'}", "-isystem",
         headers, ROOT / "examples" / "gguf.cpp", "-o", built, *wanted, f"-Wl,-rpath,{ours}:{theirs / 'lib'}",
         f"-Wl,-rpath-link,{theirs / 'lib'}"],
        check=True,
    )  # fmt: skip
    return built


@pytest.mark.parametrize("flash", ["on", "off"])
def test_the_header_and_the_package_say_the_same(program, smollm2, flash, tmp_path):  # noqa: F811
    out = tmp_path / "graph.npz"
    done = subprocess.run([program, smollm2, TEXT, "0.05", out, flash], capture_output=True, text=True, check=True)
    got = ag.load(out)
    want = ag.llama_cpp.capture(smollm2, TEXT, 0.05, flash_attention=flash == "on")
    assert done.stdout == f"270 heads, {len(want)} edges\n"
    assert len(want.tokens) > 512  # two ubatches
    assert not got.diff(want) and got.tokens == want.tokens and got.slices == want.slices


def test_its_errors_are_told(program, tmp_path):
    done = subprocess.run(
        [program, "/no/such.gguf", "text", "0.05", tmp_path / "x.npz"], capture_output=True, text=True
    )
    assert done.returncode == 1 and "could not load /no/such.gguf" in done.stderr
