# SPDX-License-Identifier: Apache-2.0
"""What Ray's workers answer is what one process answers, also when some of them are killed.

ATTNGRAPH_KILLS says at how many moments a worker and a driver are killed (scripts/test-python --full: 20).
"""

import os
import random
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from conftest import bench_module
from same import assert_identical, random_qk

import attngraph as ag

pytest.importorskip("ray")
# Where other work goes on, Ray's own processes take longer to come up than it waits by itself.
os.environ.setdefault("RAY_agent_register_timeout_ms", "120000")
workers_of = bench_module("scale").workers_of
KILLS = int(os.environ.get("ATTNGRAPH_KILLS", "1"))


@pytest.fixture(scope="module")
def ray(tmp_path_factory):
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=256 << 20)
    yield ray
    ray.shutdown()


def test_no_more_tasks_are_given_out_than_there_is_room_for():
    class Slow:
        """Answers one task when it is waited for, the oldest."""

        pending = most = 0

        def wait(self, refs, num_returns):
            return refs[:1], refs[1:]

        def get(self, ref):
            self.pending -= 1
            return -ref

    slow = Slow()

    def submit(item):
        slow.pending += 1
        slow.most = max(slow.most, slow.pending)
        return item

    taken = iter(range(100))
    answers = ag.ray._each(slow, taken, submit, room=5)
    assert next(answers) == (0, 0) and next(taken) == 6, "an iterable is read as there is room"
    assert [place for place, _ in answers] == list(range(1, 99)) and slow.most == 5


@pytest.mark.parametrize("in_flight", [1, 4])
def test_the_answer_is_that_of_one_process(ray, in_flight):
    q, k = random_qk(3, 6, 2, 1300)
    tokens = [f"w{i}" for i in range(1300)]
    how = {"window": 700, "sinks": np.linspace(-1, 1, 6).astype(np.float32)}
    got = ag.ray.extract(q, k, 0.02, tokens=tokens, pairs_per_task=300_000, in_flight=in_flight, **how)
    assert_identical(got, ag.extract(q, k, 0.02, tokens=tokens, **how), sums=False)


def test_a_data_set_and_questions_to_it(ray, tmp_path):
    q, k = random_qk(4, 4, 4, 900)
    made = ag.ray.extract({2: (q, k), 5: (k, q)}, None, 0.02, folder=tmp_path / "set", stats="heads", pairs_per_task=100_000)
    here = ag.dataset.extract(tmp_path / "here", {2: (q, k), 5: (k, q)}, None, 0.02, stats="heads", pairs_per_task=100_000)
    assert_identical(made.graph(), here.graph())
    assert ag.ray.sweep(made, [0.02, 0.3]) == here.sweep([0.02, 0.3])
    for got, want in ((ag.ray.top(made, 20), here.top(20)), (ag.ray.heads(made), here.heads())):
        for name, values in want.to_dict().items():
            np.testing.assert_array_equal(got[name], values)


def test_what_is_wrong_is_told_by_the_librarys_own_errors(ray, monkeypatch):
    q, k = random_qk(3, 2, 2, 600)
    with pytest.raises(TypeError, match="thresold"):
        ag.ray.extract(q, k, thresold=0.1)
    with pytest.raises(ag.errors.ArgumentError, match="wants 99 CPU"):
        ag.ray.extract(q, k, num_cpus=99)
    q[1, 500, 3] = np.nan
    with pytest.raises(ag.errors.NonfiniteError, match="position 500"):
        ag.ray.extract(q, k, pairs_per_task=50_000)
    monkeypatch.setattr(ag.ray, "_own_version", lambda: ("0.0.9", 1))
    with pytest.raises(ag.errors.UnsupportedError, match=r"attngraph 0.0.9 \(ABI 1\)"):
        ag.ray.extract(k, k)


def test_killed_workers_are_done_again(ray):
    q, k = random_qk(5, 4, 4, 4000)
    want = ag.extract(q, k, 0.02)
    chance, killed = random.Random(7), []
    for _ in range(KILLS):
        answer = []
        run = threading.Thread(target=lambda: answer.append(ag.ray.extract(q, k, 0.02, pairs_per_task=1_000_000)))
        run.start()
        time.sleep(0.05 + 0.2 * chance.random())
        while run.is_alive() and not (pids := workers_of(os.getpid())):
            time.sleep(0.01)
        for pid in pids[:1]:
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)
        run.join()
        assert_identical(answer[0], want)
    assert killed


_DRIVER = """
import sys
import numpy as np, ray
import attngraph as ag
ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, object_store_memory=128 << 20)
a = np.load(sys.argv[1])
print("begin", flush=True)
ag.ray.extract(a["q"], a["k"], 0.02, folder=sys.argv[2], pairs_per_task=1_000_000, resume=True)
"""


def test_a_driver_that_is_killed_is_resumed(ray, tmp_path):
    q, k = random_qk(5, 4, 4, 4000)
    np.savez(tmp_path / "qk.npz", q=q, k=k)
    want = ag.extract(q, k, 0.02)
    chance = random.Random(9)
    for n in range(KILLS):
        folder = tmp_path / f"set{n}"
        driver = subprocess.Popen([sys.executable, "-c", _DRIVER, str(tmp_path / "qk.npz"), str(folder)], stdout=subprocess.PIPE)
        driver.stdout.readline()
        while driver.poll() is None and not list(folder.glob("index/*/*.json")):
            time.sleep(0.01)
        time.sleep(0.5 * chance.random())
        driver.kill()
        driver.wait()
        made = ag.ray.extract(q, k, 0.02, folder=folder, pairs_per_task=1_000_000, resume=True)
        assert_identical(made.graph(), want)


def _tiny_model():
    import torch
    import transformers

    torch.manual_seed(7)
    config = transformers.LlamaConfig(
        vocab_size=97, hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, initializer_range=0.3,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config).eval()


def test_prompts_become_documents(ray, tmp_path):
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    prompts = [{"input_ids": torch.randint(1, 97, (1, n), generator=torch.Generator().manual_seed(n))} for n in (20, 35, 50)]
    how = {"folder": tmp_path / "set", "name": "tiny", "workers": 1}
    made = ag.ray.capture(_model_maker(), prompts[:2], **how)
    made = ag.ray.capture(_model_maker(), iter(prompts), resume=True, **how)
    assert made.docs == ["0", "1", "2"]
    model = _tiny_model()
    for doc, prompt in enumerate(prompts):
        with torch.no_grad(), ag.transformers.capture(model) as heard:
            model(**prompt)
        assert_identical(made.graph(doc=doc), heard.graph)
    with pytest.raises(ag.errors.ArgumentError, match="prompt 0 is not the one"):
        ag.ray.capture(_model_maker(), prompts[1:], resume=True, **how)
    with pytest.raises(ag.errors.ArgumentError, match="another model"):
        ag.ray.capture(_model_maker(), prompts, resume=True, **{**how, "name": "other"})


def _model_maker():
    """A function that workers can have without this file."""
    import inspect

    scope = {}
    exec(inspect.getsource(_tiny_model), scope)
    return scope["_tiny_model"]
