# SPDX-License-Identifier: Apache-2.0
"""Times the questions of docs/questions.md: parts, groups, differences of a graph of so many edges, with the memory that
they take beyond it; what statistics add to a capture; and ways through the layers, beside networkx.

usage: python questions.py [--edges N] [--capture [--genesis FILE.safetensors] | --flow | --live FILE.gguf]
"""

import argparse
import functools
import json
import os
import resource
import time
from pathlib import Path

import numpy as np

import attngraph as ag


def graph_of(edges, seed):
    """Rows of about 16 edges over 8,192 positions, as many heads as it takes."""
    rng = np.random.default_rng(seed)
    rows, per_row = 8192, 16
    heads = max(1, round(edges / (rows * per_row)))
    slices = []
    offsets = np.arange(rows + 1, dtype=np.int64) * per_row
    for head in range(heads):
        keys = np.cumsum(rng.integers(1, 2 * rows // per_row // 2, (rows, per_row)), axis=1).astype(np.int32)
        weights = rng.random((rows, per_row), np.float32) + 0.05
        weights /= weights.sum(1, keepdims=True) * 1.1
        label = ag.Slice(0, head // 32, head % 32, 0, rows, rows, rows * per_row)
        slices.append((label, ag.Csr(offsets, keys.ravel(), weights.ravel())))
    return ag.from_slices(slices, metadata={"threshold": "0.001", "weights": "softmax"})


def resident():
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def timed(name, work, graph_bytes):
    before = resident()
    start = time.perf_counter()
    answer = work()
    elapsed = time.perf_counter() - start
    print(f"{name:<28} {elapsed:8.3f} s   {(resident() - before) / graph_bytes:5.2f} x the graph's memory", flush=True)
    del answer


def questions(edges):
    before = resident()
    a = graph_of(edges, 1)
    graph_bytes = max(resident() - before, 8 * len(a))
    b = graph_of(edges, 2)
    print(f"{len(a):,} edges, {graph_bytes / 1e6:.0f} MB")
    words = [(n, n + 2) for n in range(0, 8192, 2)]
    timed("filter(0.05)", lambda: a.filter(0.05), graph_bytes)
    timed("filter(keys, distance)", lambda: a.filter(without_first=True, distance=(1, 4096)), graph_bytes)
    timed("group(two tokens each)", lambda: a.group(words), graph_bytes)
    timed("diff", lambda: a.diff(b), graph_bytes)
    timed("diff_heads", lambda: a.diff_heads(b), graph_bytes)
    timed("diff_pairs(20)", lambda: a.diff_pairs(b, 20), graph_bytes)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"peak of the process: {peak / graph_bytes:.2f} x one graph, of which two are its input")


def header_of(raw):
    """Of a safetensors file: what is said of every tensor, and where the first one begins."""
    size = int.from_bytes(raw[:8], "little")
    return json.loads(raw[8 : 8 + size]), 8 + size


def ids_of(tokens):
    return np.unique(np.array(tokens, dtype=object), return_inverse=True)[1]


def genesis_ids(count):
    """Tokens of a real text, as often as it takes."""
    path = Path(__file__).resolve().parents[2] / "data" / "genesis-1k.safetensors"
    return np.resize(ids_of(json.loads(header_of(path.read_bytes())[0]["__metadata__"]["tokens"])), count)


def real_heads(path, count):
    """Queries, keys and token ids of the last layer of a capture, of its first tokens."""
    raw = path.read_bytes()
    header, begin = header_of(raw)
    tokens = json.loads(header.pop("__metadata__")["tokens"])
    last = max(int(name[2:]) for name in header)

    def tensor(name):
        at = header[name]
        values = np.frombuffer(raw, np.float16, np.prod(at["shape"]), begin + at["data_offsets"][0])
        return np.ascontiguousarray(values.reshape(at["shape"])[..., :count, :])

    return tensor(f"q.{last}"), tensor(f"k.{last}"), ids_of(tokens[:count])


def capture(genesis):
    """One layer of 9 heads of 64 over 4,096 tokens, as SmolLM2 has 30 of: made ones, and real ones where there are any."""
    rng = np.random.default_rng(0)
    tokens = 4096
    q = (2 * rng.standard_normal((9, tokens, 64))).astype(np.float32)
    k = (2 * rng.standard_normal((3, tokens, 64))).astype(np.float32)
    sides = {"made, f32": (q, k, genesis_ids(tokens))}
    if genesis:
        sides["real, f16"] = real_heads(genesis, tokens)
    for name, (queries, keys, ids) in sides.items():
        print(name)
        kinds = {
            "edges alone": {},
            "entropy, columns, distances": {"stats": ["entropy", "columns", "distances"]},
            "all of heads()": {"stats": "heads", "token_ids": ids, "word_ids": np.arange(len(ids)) // 2},
        }
        in_turn(
            {kind: functools.partial(ag.extract, queries, keys, threshold=0.05, threads=1, **how) for kind, how in kinds.items()},
            rounds=7,
        )


def in_turn(sides, rounds=3):
    """Median processor times of functions, interleaved, and how many times as long as the first the others take: ratios
    that other work on the machine does not move."""
    times = {name: [] for name in sides}
    for _ in range(rounds):
        for name, work in sides.items():
            start = time.process_time()
            work()
            times[name].append(time.process_time() - start)
    base = np.median(next(iter(times.values())))
    for name, values in times.items():
        print(f"{name:<44} {np.median(values):9.4f} s   {np.median(values) / base:7.2f} x", flush=True)


def flow(edges):
    import networkx

    graph = graph_of(edges, 1)
    whole = graph.aggregate("sum")  # networkx has one edge a pair
    network = networkx.from_scipy_sparse_array(whole.to_scipy(), create_using=networkx.DiGraph)
    print(f"{len(whole):,} edges")
    in_turn({
        "pagerank": whole.pagerank,
        "networkx.pagerank, of a network that is there": lambda: networkx.pagerank(network, tol=1e-9, max_iter=1000),
    })  # fmt: skip
    in_turn({
        "components": whole.components,
        "networkx, of a network that is there": lambda: list(networkx.weakly_connected_components(network)),
    })  # fmt: skip
    rng = np.random.default_rng(0)
    q, k = (1.5 * rng.standard_normal((6, 1, 2, 256, 16)).astype(np.float32) for _ in range(2))
    layers = ag.extract(list(q), list(k), threshold=0.02)
    network = networkx.DiGraph()
    from attngraph._token_graph import layer_matrices

    for depth, (_, _, matrix) in enumerate(layer_matrices(layers, 0.5, "mean", False, "flow")):
        matrix = matrix.tocoo()
        for i, j, weight in zip(*matrix.coords, matrix.data):
            network.add_edge((depth, int(j)), (depth + 1, int(i)), capacity=float(weight))
    print(f"{network.number_of_edges():,} edges between 7 layers of 256 positions")
    in_turn({
        "flow, with the layers made": lambda: layers.flow(255, 128),
        "networkx.maximum_flow, of a network that is there": lambda: networkx.maximum_flow(network, (0, 128), (6, 255)),
    })  # fmt: skip


def live(file, count=1024):
    """A model's pass, its capture, and the capture with all that heads() needs, on one thread."""
    import torch
    import transformers

    torch.set_num_threads(1)
    how = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    tokenizer = transformers.AutoTokenizer.from_pretrained(**how)
    model = transformers.AutoModelForCausalLM.from_pretrained(**how, dtype=torch.float32).eval()
    text = (Path(__file__).resolve().parents[2] / "docs" / "numerics.md").read_text(encoding="utf-8")
    ids = tokenizer(text, return_tensors="pt")["input_ids"][:, :count]
    tokens = [tokenizer.decode([n]) for n in ids[0]]
    print(f"{ids.shape[1]} tokens")

    def captured(**more):
        with torch.no_grad(), ag.transformers.capture(model, 0.05, tokens=tokens, threads=1, **more) as cap:
            model(ids)
        return cap.graph

    def alone():
        with torch.no_grad():
            model(ids)

    in_turn({
        "capture": captured,
        "capture with stats, and heads()": lambda: captured(stats="heads", token_ids=ids).heads(),
        "the model alone": alone,
    })  # fmt: skip


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--edges", type=int, default=1_750_000)
parser.add_argument("--capture", action="store_true")
parser.add_argument("--genesis", type=Path, default=os.environ.get("ATTNGRAPH_GENESIS_8K"), help="a long real capture")
parser.add_argument("--flow", action="store_true")
parser.add_argument("--live", type=Path)
how = parser.parse_args()
if how.capture:
    capture(how.genesis)
elif how.flow:
    flow(how.edges)
elif how.live:
    live(how.live)
else:
    questions(how.edges)
