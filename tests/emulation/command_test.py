# SPDX-License-Identifier: Apache-2.0
"""The command over the emulated CUDA plugin: answers of a real model's tensors, and every way in which a device can fail.

The environment names the command, the plugin and the source tree (see tests/CMakeLists.txt).
"""

import os
import subprocess
import tempfile
import unittest
from pathlib import Path

COMMAND = os.environ["COMMAND"]
PLUGIN = os.environ["PLUGIN"]
DATA = Path(os.environ["SOURCE"]) / "data"
CAPTURE = DATA / "genesis-1k.safetensors"
PART = [CAPTURE, "--layers", "12", "--heads", "0,4", "--query-range", "0:200", "-t", "0.05"]
# More than the CPU does in 10 ms on one thread: less is not worth looking for a GPU.
WHOLE = [CAPTURE, "--layers", "12", "-t", "0.05", "--threads", "1"]
BACKENDS = ("cuda_materialised", "cuda_streaming")


def run(*words, fault=None, plugin=PLUGIN, **settings):
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("ATTNGRAPH_", "GTEST_"))}
    environment |= {key if key == "LD_DEBUG" else f"ATTNGRAPH_{key}": str(value) for key, value in settings.items()}
    if plugin:
        environment["ATTNGRAPH_CUDA_PLUGIN"] = str(plugin)
    if fault:
        environment["ATTNGRAPH_EMU_FAULT"] = fault
    return subprocess.run([COMMAND, *map(str, words)], capture_output=True, text=True, env=environment, timeout=500)


class Command(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def extract(self, name, *words, source=PART, **settings):
        done = run("extract", *source, *words, "-o", self.folder / name, **settings)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stderr

    def assert_same_graph(self, a, b):
        done = run("diff", self.folder / a, self.folder / b, "--band", "1e-4")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def assert_fails(self, status_words, *words, **settings):
        """Exit 1, one line on stderr that says so, no file."""
        done = run("extract", *PART, *words, "-o", self.folder / "none.npz", **settings)
        self.assertEqual(done.returncode, 1, done.stderr)
        lines = done.stderr.strip().splitlines()
        self.assertEqual(len([line for line in lines if line.startswith("attngraph: error:")]), 1, done.stderr)
        for word in status_words:
            self.assertIn(word, done.stderr)
        self.assertFalse((self.folder / "none.npz").exists())

    def assert_cpu_answers(self, reason, **settings):
        said = self.extract("auto.npz", source=WHOLE, **settings)
        self.assertIn("attngraph: cpu on", said)
        if reason:
            self.assertIn(reason, said)
        self.extract("cpu.npz", "--backend", "cpu", source=WHOLE)
        self.assert_same_graph("auto.npz", "cpu.npz")

    def test_real_tensors_give_the_graph_of_the_cpu(self):
        self.extract("cpu.npz", "--backend", "cpu")
        for backend in BACKENDS:
            with self.subTest(backend=backend):
                self.assertIn(f"{backend} on", self.extract(f"{backend}.npz", "--backend", backend))
                self.assert_same_graph("cpu.npz", f"{backend}.npz")

    def test_the_side_that_answers_first_is_the_default_one(self):
        def explained(source, **settings):
            return run("extract", *source, "--explain", **settings).stdout

        warm = explained(WHOLE)
        self.assertRegex(warm, r"backend +cuda_streaming")
        self.assertRegex(warm, r"chosen by time +about \d+ ms on the CPU, .* by cuda_streaming\n")
        cold = explained(WHOLE, EMU_COLD=1)  # a context would have to be made
        self.assertRegex(cold, r"backend +cpu")
        self.assertRegex(cold, r"chosen by time .* by cuda_streaming \(297 ms of it to start\)")
        self.assertRegex(explained(PART), r"backend +cpu")
        self.assertRegex(explained(PART), r"chosen by time +less than it takes to look for a GPU")
        for words in (["--device", "cuda"], ["--backend", "cuda_streaming"]):
            said = explained([*PART, *words], EMU_COLD=1)
            self.assertRegex(said, r"backend +cuda_streaming")
            self.assertNotIn("chosen by time", said)

    def test_stored_weights_are_filtered(self):
        matrix = DATA / "genesis-256-weights.safetensors"
        for backend in ("cpu", *BACKENDS):
            done = run("filter", matrix, "--name", "softmax.12", "-t", "0.1", "--backend", backend, "-o",
                       self.folder / f"{backend}.npz")  # fmt: skip
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("4,282 edges", done.stderr)

    def test_devices_share_the_heads(self):
        self.extract("one.npz", "--backend", "cuda_streaming")
        said = run("extract", *PART, "--device", "cuda", "--explain", EMU_DEVICES=3).stdout
        self.assertIn("0, 1, 2", said)
        self.extract("three.npz", "--backend", "cuda_streaming", "--workspace", "2", EMU_DEVICES=3, EMU_DEFER="random:5")
        self.extract("second.npz", "--device", "cuda:1", EMU_DEVICES=3)
        for other in ("three.npz", "second.npz"):
            done = run("diff", self.folder / "one.npz", self.folder / other, "--band", "0")
            self.assertEqual(done.returncode, 0, done.stdout)
        self.assert_fails(["no usable CUDA device 3"], "--device", "cuda:3", EMU_DEVICES=3)

    def test_a_small_workspace_gives_the_same_graph(self):
        for backend in BACKENDS:
            self.extract("large.npz", "--backend", backend)
            self.extract("small.npz", "--backend", backend, "--workspace", "1")
            self.assert_same_graph("large.npz", "small.npz")

    def test_doctor_names_what_there_is(self):
        said = run("doctor", EMU_DEVICES=2).stdout
        for word in (PLUGIN, "device 0", "device 1", "sm_80", "multiprocessors", "driver of CUDA", "built for", "uBLAS"):
            self.assertIn(word, said)

    def test_doctor_says_why_cuda_is_off(self):
        for fault, reason in [("no-driver", "no NVIDIA driver"), ("no-device", "shows no device")]:
            done = run("doctor", fault=fault)
            self.assertEqual(done.returncode, 0)
            self.assertIn(reason, done.stdout)
            self.assertIn(PLUGIN, done.stdout)

    def test_cublas_is_opened_for_whom_it_concerns(self):
        # The loader names every file that it is asked for.
        def opened(*words, **settings):
            done = run(*words, LD_DEBUG="files", CUBLAS="/no/such/libcublas.so", **settings)
            self.assertEqual(done.returncode, 0, done.stderr[-1000:])
            return "/no/such/libcublas.so" in done.stderr

        matrix = [DATA / "genesis-256-weights.safetensors", "--name", "softmax.12", "-t", "0.1"]
        matrix += ["-o", self.folder / "matrix.npz"]
        self.assertTrue(opened("doctor"))
        self.assertFalse(opened("filter", *matrix, "--backend", "cuda_streaming"))
        for fault in ("no-driver", "no-device"):
            self.assertFalse(opened("filter", *matrix, fault=fault), fault)
            self.assertFalse(opened("doctor", fault=fault), fault)

    def test_no_driver_and_no_device(self):
        for fault, reason in [("no-driver", "no NVIDIA driver"), ("no-device", "shows no device")]:
            for backend in BACKENDS:
                self.assert_fails([backend, "cannot run here", reason], "--backend", backend, fault=fault)
            self.assert_fails([reason], "--device", "cuda", fault=fault)
            self.assert_cpu_answers(None, fault=fault)

    def test_no_plugin_and_wrong_plugins(self):
        text = self.folder / "text.so"
        text.write_text("text")
        for plugin, reason in [("/no/such/plugin.so", "/no/such/plugin.so"), (text, "cannot be opened"),
                               ("plugin.so", "absolute path")]:  # fmt: skip
            self.assert_fails([reason], "--backend", "cuda_streaming", plugin=plugin)
            self.assert_cpu_answers(None, plugin=plugin)

    def test_a_device_without_code_for_it(self):
        self.assert_fails(["no kernel image"], "--backend", "cuda_streaming", fault="no-kernel-image")
        self.assert_cpu_answers("note: cpu answered because cuda_streaming failed", fault="no-kernel-image")

    def test_device_memory_exhausted_once_is_overcome(self):
        self.extract("whole.npz", "--backend", "cuda_streaming")
        self.extract("again.npz", "--backend", "cuda_streaming", fault="device-allocation=3")
        self.assert_same_graph("whole.npz", "again.npz")

    def test_too_little_device_memory(self):
        for backend in BACKENDS:
            self.assert_fails(["device memory is exhausted"], "--backend", backend, EMU_MEMORY=200_000)
        self.assert_cpu_answers("device memory is exhausted", EMU_MEMORY=200_000)

    def test_a_lost_device(self):
        for backend in BACKENDS:
            self.assert_fails(["cannot be used again"], "--backend", backend, fault="launch=3")
        self.assert_cpu_answers("cannot be used again", fault="launch=3")

    def test_cublas_that_cannot_start(self):
        self.assert_fails(["cuBLAS"], "--backend", "cuda_materialised", fault="cublas-create")
        self.extract("streaming.npz", "--backend", "cuda_streaming", fault="cublas-create")

    def test_cublas_missing(self):
        self.assert_fails(["cuda_materialised", "cuBLAS"], "--backend", "cuda_materialised", CUBLAS="/no/such/libcublas.so")
        self.extract("streaming.npz", "--backend", "cuda_streaming", CUBLAS="/no/such/libcublas.so")


if __name__ == "__main__":
    unittest.main()
