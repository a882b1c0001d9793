# SPDX-License-Identifier: Apache-2.0
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

import attngraph as ag

DATA = Path(__file__).resolve().parents[2] / "data"


def script(path):
    """A file that is in no package, as a module."""
    spec = importlib.util.spec_from_file_location(f"{path.parent.name}_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def bench_module(name):
    return script(DATA.parent / "python" / "bench" / f"{name}.py")


def example(name):
    return script(DATA.parent / "examples" / f"{name}.py")


def read_safetensors(path):
    """Tensors and facts, read here by hand: a second opinion on the library's own reader."""
    types = {"F16": np.float16, "F32": np.float32}
    raw = path.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    facts = header.pop("__metadata__")
    tensors = {
        name: np.frombuffer(raw[8 + size :], types[t["dtype"]], offset=t["data_offsets"][0], count=np.prod(t["shape"]))
        .reshape(t["shape"])
        for name, t in header.items()
    }
    return tensors, facts


@pytest.fixture(scope="session")
def genesis():
    return read_safetensors(DATA / "genesis-1k.safetensors")


@pytest.fixture(scope="session")
def genesis_weights():
    return read_safetensors(DATA / "genesis-256-weights.safetensors")


def softmax_weights(q, k, *, scale=None, causal=True, mask=None, window=None, softcap=None, sinks=None):
    """[B, Hq, Nq, Nk] in float64, row by row as the formula says."""
    q, k = np.asarray(q, np.float64), np.asarray(k, np.float64)
    batch, heads, queries, size = q.shape
    keys, group = k.shape[2], q.shape[1] // k.shape[1]
    out = np.zeros((batch, heads, queries, keys))
    for b in range(batch):
        for h in range(heads):
            for i in range(queries):
                s = k[b, h // group] @ q[b, h, i] * (1 / np.sqrt(size) if scale is None else scale)
                if softcap:
                    s = softcap * np.tanh(s / softcap)
                position = i + keys - queries
                allowed = np.ones(keys, bool)
                if causal:
                    allowed &= np.arange(keys) <= position
                if window:
                    allowed &= np.abs(position - np.arange(keys)) < window
                if mask is not None:
                    m = np.broadcast_to(mask, out.shape)[b, h, i]
                    allowed &= m if m.dtype == bool else True
                    s = s if m.dtype == bool else s + m
                if not allowed.any():
                    continue
                top = s[allowed].max()
                e = np.where(allowed, np.exp(s - top), 0)
                extra = 0 if sinks is None else np.exp(sinks[h] - top)
                out[b, h, i] = e / (e.sum() + extra)
    return out


def edge_dict(graph):
    """{(batch, layer, head, query, key): weight}"""
    e = graph.edges
    index = zip(*(e[name].tolist() for name in ("batch", "layer", "head", "query", "key")))
    return dict(zip(index, e["weight"].tolist()))


def expected_edges(weights, threshold, layer=0):
    return {
        (b, layer, h, i, j): weights[b, h, i, j] for b, h, i, j in np.argwhere(weights >= threshold).tolist()
    }


def assert_same_edges(graph, weights, threshold, layer=0):
    """Equal sets outside the band that the report states; equal weights."""
    got, want = edge_dict(graph), expected_edges(weights, threshold, layer)
    for edge in got.keys() ^ want.keys():
        weight = weights[edge[0], edge[2], edge[3], edge[4]]
        assert abs(np.log(weight / threshold)) <= graph.report.eps, (edge, weight)
    both = sorted(got.keys() & want.keys())
    assert both
    np.testing.assert_allclose([got[e] for e in both], [want[e] for e in both], rtol=1e-4)


@pytest.fixture(scope="session")
def lonely_graph():
    """20,000 tokens that look at themselves and four before, and one edge, 700 -> 15,000, alone above the diagonal."""
    n, near = 20_000, 5
    rows, keys = np.repeat(np.arange(n), near), (np.arange(n)[:, None] - np.arange(near)[::-1]).ravel()
    rows, keys = rows[keys >= 0], keys[keys >= 0]
    at = np.searchsorted(rows, 700, "right")
    weights = np.insert(np.full(len(rows), 0.1, np.float32), at, np.float32(0.5))
    rows, keys = np.insert(rows, at, 700), np.insert(keys, at, 15_000).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n))])
    csr, words = ag.Csr(offsets, keys, weights), [f" w{i}" for i in range(n)]
    return ag.from_slices([(ag.Slice(0, 0, 0, 0, n, n, 0), csr)], tokens=words, metadata={"threshold": "0.1"})
