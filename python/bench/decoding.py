# SPDX-License-Identifier: Apache-2.0
"""A decoding step with kept keys beside its row extracted anew, and a model that generates under capture.

usage: decoding.py [--keys N] [--rounds N] [--processor-time] [--model] [--tokens N ...]

Every round appends one key and asks for the row of every query head by a Session, then extracts the same row anew with
all keys, in turn, on one thread; the two graphs must be the same. Reported are medians, and the median of the rounds'
ratios; with --processor-time of the process's own time, for machines that have other work. --model lets a small model
(random weights, 4 layers, 8 query and 2 key heads of 64) generate without capture, under capture, and under capture that
keeps no keys.
"""

import argparse
import statistics
import time

import numpy as np

import attngraph as ag

SHAPES = {"1 head": (1, 1), "9 query heads, 3 key heads": (9, 3)}


CLOCK = time.perf_counter


def timed(work):
    begin = CLOCK()
    answer = work()
    return answer, 1e3 * (CLOCK() - begin)


def arrays(name, heads, keys, rng):
    x = rng.standard_normal((heads, keys, 64), dtype=np.float32)
    if name == "float32":
        return x
    import torch

    return torch.from_numpy(x).to(getattr(torch, name))


def steps(args):
    for shape, (query_heads, key_heads) in SHAPES.items():
        for dtype in ("float32", "float16", "bfloat16"):
            rng = np.random.default_rng(1)
            count = args.keys + args.rounds
            q, k = arrays(dtype, query_heads, args.rounds, rng), arrays(dtype, key_heads, count, rng)
            session = ag.Session(0.01, threads=1)
            session.append(k[:, : args.keys])
            session.rows(q[:, :1])
            kept, anew, ratios = [], [], []
            for n in range(args.rounds):
                end, query = args.keys + n + 1, q[:, n : n + 1]

                def step():
                    session.append(k[:, end - 1 : end])
                    return session.rows(query)

                row, a = timed(step)
                other, b = timed(lambda: ag.extract(query, k[:, :end], 0.01, threads=1))
                if row.diff(other) or len(row) != len(other):
                    raise SystemExit(f"{shape}, {dtype}: the graphs differ")
                kept.append(a)
                anew.append(b)
                ratios.append(b / a)
            print(
                f"{shape:28} {dtype:9} {args.keys} keys: step {statistics.median(kept):7.2f} ms, anew "
                f"{statistics.median(anew):7.1f} ms, {statistics.median(ratios):5.1f} times "
                f"({min(ratios):.1f} to {max(ratios):.1f}), {session.nbytes / 2**20:.0f} MiB",
                flush=True,
            )


def model(args):
    import torch
    import transformers

    from attngraph.transformers import capture

    torch.manual_seed(0)
    torch.set_num_threads(1)
    config = transformers.LlamaConfig(
        vocab_size=256, hidden_size=512, intermediate_size=512, num_hidden_layers=4, num_attention_heads=8,
        num_key_value_heads=2, max_position_embeddings=65536, eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    llama = transformers.LlamaForCausalLM(config).eval()
    ids = torch.randint(1, 256, (1, 16))

    def generate(tokens):
        with torch.no_grad():
            llama.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False)

    def captured(tokens, keep):
        with capture(llama, 0.05, threads=1, keep_keys=keep):
            generate(tokens)

    generate(8)
    for tokens in args.tokens:
        _, plain = timed(lambda: generate(tokens))
        _, kept = timed(lambda: captured(tokens, True))
        _, anew = timed(lambda: captured(tokens, False))
        print(
            f"{tokens} tokens: model {plain / 1e3:.1f} s, capture {kept / 1e3:.1f} s, keeping no keys {anew / 1e3:.1f} s; "
            f"capture adds {(kept - plain) / tokens:.2f} ms a token, keeping no keys {(anew - plain) / tokens:.2f} ms",
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keys", type=int, default=131072)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--processor-time", action="store_true")
    parser.add_argument("--model", action="store_true")
    parser.add_argument("--tokens", type=int, nargs="+", default=[500, 2000])
    args = parser.parse_args()
    if args.processor_time:
        global CLOCK
        CLOCK = time.process_time
    (model if args.model else steps)(args)


if __name__ == "__main__":
    main()
