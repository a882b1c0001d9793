# SPDX-License-Identifier: Apache-2.0
"""The wheel as a user meets it: a fresh environment, no compiler on PATH, no library of the distribution but those that
manylinux allows. ATTNGRAPH_WHEELS is the folder where scripts/wheel put it; scripts/test-python sets that."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = os.environ.get("ATTNGRAPH_WHEELS")
DATA = Path(__file__).resolve().parents[2] / "data"
pytestmark = pytest.mark.skipif(not FOLDER, reason="ATTNGRAPH_WHEELS names no folder of wheels")

# What every Linux with the wheel's glibc has, by the manylinux rules.
OF_THE_SYSTEM = re.compile(r"(libc|libm|libdl|librt|libpthread|libstdc\+\+|libgcc_s|libz|ld-linux[-\w]*|linux-vdso)\.so\.\d+")


def run(*command, **more):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=300, **more)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


class Environment:
    def __init__(self, folder):
        run(sys.executable, "-m", "venv", "--without-pip", folder)
        self.bin = folder / "bin"
        self.site = Path(run(self.bin / "python", "-c", "import sysconfig; print(sysconfig.get_path('platlib'))").strip())
        self.variables = {"PATH": str(self.bin), "HOME": os.environ.get("HOME", "/"), "LC_ALL": "C.UTF-8"}

    def install(self, pattern):
        (wheel,) = Path(FOLDER).glob(pattern)
        pip = (sys.executable, "-m", "pip", "--python", self.bin / "python", "--disable-pip-version-check")
        run(*pip, "install", "--only-binary", ":all:", wheel, env=self.variables)

    def run(self, *command):
        return run(self.bin / command[0], *command[1:], env=self.variables, cwd=self.bin.parent)


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    made = Environment(tmp_path_factory.mktemp("wheel") / "venv")
    made.install("attngraph-*manylinux*.whl")
    return made


def libraries(file):
    """What the loader takes for a file: {name: path}."""
    return dict(re.findall(r"(\S+) => (\S+) \(", run("ldd", file)))


def test_its_libraries_are_its_own(environment):
    package = environment.site / "attngraph"
    files = [*package.glob("*.so*"), package / "bin" / "attngraph", *(environment.site / "attngraph.libs").glob("*.so*")]
    assert len(files) >= 5, files
    for file in files:
        for name, path in libraries(file).items():
            inside = Path(path).resolve().is_relative_to(environment.site.resolve())
            assert inside or OF_THE_SYSTEM.fullmatch(name), f"{file.name} takes {name} from {path}"
    (shared,) = package.glob("libattngraph.so.*")
    for file in package / "bin" / "attngraph", next(package.glob("_native*.so")):
        assert Path(libraries(file)[shared.name]).resolve() == shared.resolve()


def test_the_command_and_the_package_answer_alike(environment, tmp_path):
    file = DATA / "genesis-1k.safetensors"
    version = environment.run("attngraph", "--version")
    assert environment.run("python", "-m", "attngraph", "--version") == version
    said = environment.run("attngraph", "doctor")
    assert "backend cpu" in said
    environment.run("attngraph", "extract", file, "-t", "0.05", "-o", tmp_path / "g.npz")
    program = (
        "import sys, numpy, attngraph as ag; g = ag.load(sys.argv[1]);"
        "q = numpy.random.default_rng(0).standard_normal((2, 64, 32), numpy.float32);"
        "print(len(g), len(ag.extract(q, q, threshold=0.05)) > 0)"
    )
    assert environment.run("python", "-c", program, tmp_path / "g.npz").split() == ["76503", "True"]


def test_the_plugin_is_found_beside_the_package(environment):
    if not list(Path(FOLDER).glob("attngraph_cu13-*.whl")):
        assert "attngraph_cu13" in environment.run("attngraph", "doctor")  # where it would be looked for
        return
    environment.install("attngraph_cu13-*manylinux*.whl")
    plugin = environment.site / "attngraph_cu13" / "libattngraph_cuda.so"
    for name, path in libraries(plugin).items():
        inside = Path(path).resolve().is_relative_to(environment.site.resolve())
        assert inside or OF_THE_SYSTEM.fullmatch(name), f"the plugin takes {name} from {path}"
    said = environment.run("attngraph", "doctor")
    assert "attngraph_cu13/libattngraph_cuda.so" in said and "is of build" not in said, said
    assert "libattngraph_cuda.so' cannot be opened" not in said, said
    # cuBLAS is taken from where its wheel stands: a file there that is none is what the loader stumbles over.
    cublas = environment.site / "nvidia" / "cu13" / "lib" / "libcublas.so.13"
    cublas.parent.mkdir(parents=True)
    cublas.write_text("not a library")
    assert "nvidia/cu13/lib/libcublas.so.13: " in environment.run("attngraph", "doctor")
