#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""attngraph on a GPU beside what its users could write with PyTorch, from device memory to device memory, in one run.

usage: gpu_peers.py [--large] [--only WORD] [--json FILE]

Rows, of every shape in turn so that whatever the machine does disturbs all of them:

    streaming, materialised   attngraph.extract(..., out="device"); left out, with the reason, where the package or its
                              CUDA plugin is missing
    torch/chunks              scores of some rows, softmax, nonzero; the fastest of four chunk sizes
    torch/flash               the logsumexp of PyTorch's flash attention, then scores of some rows against it: no softmax
    cublas/scores             the scores alone, as f16 into memory that is there: the floor of whoever writes them
    machine/copy, /product    bytes a second of a copy in device memory, operations a second of a large product

Every answer is checked against double precision in rows spread over the whole before it is timed: outside the band that
a side works in (attngraph: 1e-3 nats; f16 products of PyTorch: 1/16), the edges must be those of the
definition. Times are medians of seven runs with a cold L2. Without a GPU it says so and exits with 0.
"""

import argparse
import json
import math
import statistics
import sys
import time

THRESHOLD = 0.01
CHUNKS = (64, 256, 1024, 4096)
SHAPES = [(1024, 32), (4096, 32), (16384, 16), (65536, 2)]
LARGE = [(262144, 1), (1048576, 1)]
OWN_BAND = 1e-3  # nats; ten times what a report says of such heads
HALF_BAND = 1 / 16  # scores that f16 rounds
CHECKED_ROWS = 48


class WrongAnswer(Exception):
    """A side whose edges are not those of the definition."""


def made(torch, n, heads, dim, dtype, device, seed=7):
    """Queries and keys [H, N, D] whose rows have a few heavy keys, as those of models do."""
    generator = torch.Generator(device=device).manual_seed(seed)
    q = torch.randn(heads, n, dim, generator=generator, device=device)
    k = torch.randn(heads, n, dim, generator=generator, device=device)
    return (2.5 * q).to(dtype), k.to(dtype)


def scores_of(torch, q, k, begin, end, causal, scale):
    width = end if causal else k.shape[1]
    scores = torch.bmm(q[:, begin:end] * scale, k[:, :width].transpose(1, 2)).float()
    if causal:
        above = torch.ones(end - begin, end - begin, dtype=torch.bool, device=q.device).triu(1)
        scores[:, :, begin:].masked_fill_(above, -torch.inf)
    return scores


def found(torch, weights, keep, begin):
    head, row, key = torch.nonzero(keep, as_tuple=True)
    return head, row + begin, key, weights[head, row, key]


def joined(torch, parts):
    return tuple(torch.cat(column) for column in zip(*parts))


def by_chunks(torch, q, k, causal, scale, threshold, rows):
    """(head, query, key, weight) of all edges: what is written today."""
    parts = []
    for begin in range(0, q.shape[1], rows):
        end = min(q.shape[1], begin + rows)
        weights = torch.softmax(scores_of(torch, q, k, begin, end, causal, scale), dim=2)
        parts.append(found(torch, weights, weights >= threshold, begin))
    return joined(torch, parts)


def flash_logsumexp(torch, q, k, causal, scale):
    """[H, N] in nats, without the scores. The values that flash attention wants are the keys."""
    if q.device.type == "cuda":
        made = torch.ops.aten._scaled_dot_product_flash_attention(q[None], k[None], k[None], 0.0, causal, scale=scale)
    else:
        made = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q[None], k[None], k[None], 0.0, causal, scale=scale)
    return made[1].reshape(q.shape[0], -1)[:, : q.shape[1]].float()


def by_flash(torch, q, k, causal, scale, threshold, rows):
    """As by_chunks, but scores are compared with a logsumexp that is known: one pass over them less."""
    logsumexp = flash_logsumexp(torch, q, k, causal, scale)
    parts = []
    for begin in range(0, q.shape[1], rows):
        end = min(q.shape[1], begin + rows)
        scores = scores_of(torch, q, k, begin, end, causal, scale)
        margin = scores.sub_(logsumexp[:, begin:end, None])
        head, row, key, log_weight = found(torch, margin, margin >= math.log(threshold), begin)
        parts.append((head, row, key, log_weight.exp()))
    return joined(torch, parts)


def by_attngraph(ag, q, k, causal, scale, threshold, backend):
    return ag.extract(q, k, threshold, causal=causal, scale=scale, backend=backend, out="device")


def edges_of(torch, graph):
    """(head, query, key, weight) of a graph in device memory, as PyTorch's, without a copy of keys and weights."""
    offsets = torch.from_dlpack(graph.indptr)
    rows = torch.repeat_interleave(torch.arange(offsets.numel() - 1, device=offsets.device), offsets.diff())
    return rows // graph.queries, rows % graph.queries, torch.from_dlpack(graph.indices).long(), torch.from_dlpack(graph.data)


def require_right(torch, edges, q, k, causal, scale, threshold, band):
    """Raises WrongAnswer unless the edges of some rows of every head are those of the definition in double, but for pairs
    within `band` of the threshold, and their weights are within `band`."""
    heads, n, _ = q.shape
    chosen = torch.linspace(0, n - 1, min(n, CHECKED_ROWS), device=q.device).long().unique()
    at = torch.full((n,), -1, dtype=torch.long, device=q.device)
    at[chosen] = torch.arange(chosen.numel(), device=q.device)
    head, query, key, weight = edges
    ours = at[query] >= 0
    head, query, key, weight = head[ours], query[ours], key[ours], weight[ours].double()
    for h in range(heads):
        scores = (q[h, chosen].double() @ k[h].double().T) * scale
        if causal:
            scores.masked_fill_(torch.arange(n, device=q.device)[None] > chosen[:, None], -torch.inf)
        log_weight = torch.log_softmax(scores, dim=1)
        margin = log_weight - math.log(threshold)
        own = head == h
        places = at[query[own]], key[own]
        is_edge = torch.zeros(margin.shape, dtype=torch.bool, device=q.device)
        is_edge[places] = True
        if int(is_edge.sum()) != int(own.sum()):
            raise WrongAnswer(f"head {h}: a pair is there twice")
        wrong = torch.nonzero((is_edge != (margin >= 0)) & (margin.abs() > band))
        if wrong.numel():
            r, j = wrong[0].tolist()
            kind = "missing" if margin[r, j] > 0 else "no edge"
            raise WrongAnswer(f"head {h}, query {int(chosen[r])}, key {j} is {kind}: its weight is {log_weight[r, j].exp():.6g}")
        off = (weight[own].log() - log_weight[places]).abs()
        if off.numel() and float(off.max()) > band:
            raise WrongAnswer(f"head {h}: a weight is off by {float(off.max()):.3g} nats")


class Clock:
    """Medians of runs on a device whose L2 holds something else."""

    def __init__(self, torch, runs=7):
        self.torch, self.runs = torch, runs
        self.other = torch.empty(1 << 28, dtype=torch.uint8, device="cuda")

    def __call__(self, work):
        work()
        times = []
        for run in range(self.runs):
            self.other.fill_(run)
            self.torch.cuda.synchronize()
            start = time.perf_counter()
            work()
            self.torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
        return statistics.median(times)


def sides_of(torch, n, heads, causal, backends):
    """{name: (work that answers with edges, its band)}; (q, k, scale) -> edges."""
    rows = [r for r in CHUNKS if r <= n and r * n * heads * 10 <= 16 << 30]
    sides = {}
    for backend, ag in backends.items():
        sides[backend.removeprefix("cuda_")] = (
            [lambda q, k, scale, ag=ag, backend=backend: by_attngraph(ag, q, k, causal, scale, THRESHOLD, backend)], OWN_BAND)  # fmt: skip
    for name, how in (("torch/chunks", by_chunks), ("torch/flash", by_flash)):
        sides[name] = ([lambda q, k, scale, how=how, r=r: how(torch, q, k, causal, scale, THRESHOLD, r) for r in rows], HALF_BAND)
    return sides


def write_scores(torch, q, k, causal, room):
    """The scores of all rows, a chunk at a time, into `room` [elements]: cuBLAS and nothing else."""
    heads, n, _ = q.shape
    rows = max(1, min(n, room.numel() // (heads * n)))
    for begin in range(0, n, rows):
        end = min(n, begin + rows)
        width = end if causal else n
        out = room[: heads * (end - begin) * width].view(heads, end - begin, width)
        torch.bmm(q[:, begin:end], k[:, :width].transpose(1, 2), out=out)


def measure(torch, clock, n, heads, dim, causal, backends, only, report):
    q, k = made(torch, n, heads, dim, torch.float16, "cuda")
    scale = dim**-0.5
    scores = heads * (n * (n + 1) / 2 if causal else n * n)
    shape = f"f16/D:{dim}/N:{n}/H:{heads}/{'causal' if causal else 'full'}"
    for name, (works, band) in sides_of(torch, n, heads, causal, backends).items():
        if only not in f"{name}/{shape}" or not works:
            continue
        try:
            answer = works[0](q, k, scale)
            edges = answer if isinstance(answer, tuple) else edges_of(torch, answer)
            require_right(torch, edges, q, k, causal, scale, THRESHOLD, band)
            count = edges[0].numel()
            del answer, edges
            seconds = min(clock(lambda work=work: work(q, k, scale)) for work in works)
        except (WrongAnswer, RuntimeError) as fault:  # of memory, mostly: the others go on
            report(f"gpu/{name}/{shape}", note=f"left out: {fault}")
            continue
        report(f"gpu/{name}/{shape}", seconds, scores / seconds, f"{count} edges, {count / (heads * n):.1f} a row")
    if only in f"cublas/scores/{shape}":
        room = torch.empty(min(heads * n * n, 1 << 29), dtype=torch.float16, device="cuda")
        seconds = clock(lambda: write_scores(torch, q, k, causal, room))
        report(f"gpu/cublas/scores/{shape}", seconds, scores / seconds, "no answer")


def limits(torch, clock, report):
    source, target = (torch.zeros(1 << 29, dtype=torch.uint8, device="cuda") for _ in range(2))
    seconds = clock(lambda: target.copy_(source))
    report("gpu/machine/copy", seconds, 2 * source.numel() / seconds, "bytes a second, reads and writes")
    a, b, c = (torch.zeros(8192, 8192, dtype=torch.float16, device="cuda") for _ in range(3))
    seconds = clock(lambda: torch.mm(a, b, out=c))
    report("gpu/machine/product_f16", seconds, 2 * 8192.0**3 / seconds, "operations a second")


def backends_here(report):
    """{backend: attngraph} of those that run here."""
    try:
        import attngraph as ag
    except ImportError as fault:
        report("gpu/attngraph", note=f"left out: {fault}")
        return {}
    usable = {}
    for name, unavailable, _ in ag.backends():
        if name.startswith("cuda_"):
            if unavailable:
                report(f"gpu/{name}", note=f"left out: {unavailable}")
            else:
                usable[name] = ag
    return usable


def main(words=None):
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--large", action="store_true", help="also 262,144 and 1,048,576 queries")
    options.add_argument("--only", default="", metavar="WORD", help="rows whose name has it")
    options.add_argument("--json", metavar="FILE", help="also write the rows as JSON")
    options = options.parse_args(words)
    try:
        import torch
    except ImportError:
        print("gpu_peers: skipped: PyTorch is not installed")
        return 0
    if not torch.cuda.is_available():
        print("gpu_peers: skipped: this PyTorch sees no CUDA device")
        return 0
    rows = []

    def report(name, seconds=None, rate=None, note=""):
        rows.append({"name": name, "seconds": seconds, "per_second": rate, "note": note})
        figures = f"{seconds * 1e3:12.3f} ms  {rate:10.4g}/s  " if seconds is not None else ""
        print(f"{name:62} {figures}{note}", flush=True)

    print(f"PyTorch {torch.__version__} on {torch.cuda.get_device_name(0)}")
    with torch.inference_mode():
        backends, clock = backends_here(report), Clock(torch)
        limits(torch, clock, report)
        for n, heads in SHAPES + (LARGE if options.large else []):
            for dim in (64, 128):
                for causal in (True, False):
                    if causal or n <= 65536:
                        measure(torch, clock, n, heads, dim, causal, backends, options.only, report)
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"device": torch.cuda.get_device_name(0), "torch": torch.__version__, "rows": rows}, file, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
