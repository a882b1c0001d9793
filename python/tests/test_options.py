# SPDX-License-Identifier: Apache-2.0
"""Every keyword of the functions that make graphs, and a call that it changes: one without a row here is found."""

import dataclasses
import inspect

import numpy as np
import pytest

import attngraph as ag
from attngraph._options import Options

RNG = np.random.default_rng(5)
Q, K = RNG.standard_normal((2, 2, 6, 16)).astype(np.float32)
BAD = K.copy()
BAD[0, 3] = np.nan
WORDS = ["a", "b", "a", "b", "a", "b"]
IDS, WORD_IDS = [1, 2, 1, 2, 1, 2], [0, 0, 1, 1, 2, 2]
LSE = np.full((1, 2, 6), 2.0)
HALF = RNG.random((2, 6, 6)).astype(np.float32)
HALF /= HALF.sum(-1, keepdims=True)

# parameter: (what both calls have, what the second has beside it)
EXTRACT = {
    "q": ({"q": Q}, {"q": 2 * Q}),
    "k": ({"k": K}, {"k": 2 * K}),
    "threshold": ({}, {"threshold": 0.3}),
    "scale": ({}, {"scale": 2.0}),
    "causal": ({}, {"causal": False}),
    "query_offset": ({}, {"query_offset": 2}),
    "mask": ({}, {"mask": np.eye(6, dtype=bool)}),
    "key_lengths": ({}, {"key_lengths": [4]}),
    "window": ({}, {"window": 2}),
    "softcap": ({}, {"softcap": 0.5}),
    "sinks": ({}, {"sinks": np.ones(2)}),
    "alibi": ({}, {"alibi": [0.5, 0.25]}),
    "lse": ({}, {"lse": LSE}),
    "lse_base": ({"lse": LSE}, {"lse_base": "2"}),
    "top_k": ({}, {"top_k": 1}),
    "mass": ({}, {"mass": 0.3}),
    "allow_dense": ({"threshold": 0.0}, {"allow_dense": True}),
    "layers": ({"q": [Q, Q], "k": [K, K]}, {"layers": [1]}),
    "layer": ({}, {"layer": 3}),
    "heads": ({}, {"heads": [1]}),
    "query_range": ({}, {"query_range": (2, 4)}),
    "layout": ({}, {"layout": "bshd"}),
    "tokens": ({}, {"tokens": WORDS}),
    "query_tokens": ({"tokens": WORDS}, {"query_tokens": list("uvwxyz")}),
    "device": ({}, {"device": "nowhere"}),
    "backend": ({}, {"backend": "reference"}),
    "threads": ({"threads": 1}, {"threads": 2}),
    "decision": ({}, {"decision": "certified"}),
    "products": ({}, {"products": "slow"}),  # what it changes depends on the processor: tests/api sees it where there is one
    "stats": ({}, {"stats": "entropy"}),
    "token_ids": ({"stats": "tokens"}, {"token_ids": IDS}),
    "word_ids": ({"stats": "tokens", "token_ids": IDS}, {"word_ids": WORD_IDS}),
    "nonfinite": ({"k": BAD}, {"nonfinite": "skip"}),
    "max_edges": ({}, {"max_edges": 3}),
    "budget": ({}, {"budget": 3}),
    "head_budget": ({}, {"head_budget": 3}),
    "out": ({}, {"out": "device"}),  # of a GPU: refused without one, and tests/device and test_device.py have one
    "stream": ({}, {"stream": "none"}),
    "workspace_bytes": ({}, {"workspace_bytes": 0}),  # of a GPU, too: `attngraph plan` says what it does there
}
MATRIX = {
    "attn": ({}, {"attn": HALF[::-1].copy()}),
    "threshold": ({}, {"threshold": 0.3}),
    "tokens": ({}, {"tokens": WORDS}),
    "query_tokens": ({"tokens": WORDS}, {"query_tokens": list("uvwxyz")}),
    "causal": ({}, {"causal": True}),
    "query_offset": ({"causal": True}, {"query_offset": 2}),
    "mask": ({}, {"mask": np.eye(6, dtype=bool)}),
    "key_lengths": ({}, {"key_lengths": [4]}),
    "window": ({}, {"window": 2}),
    "top_k": ({}, {"top_k": 1}),
    "mass": ({}, {"mass": 0.3}),
    "layers": ({"attn": [HALF, HALF]}, {"layers": [1]}),
    "layer": ({}, {"layer": 3}),
    "heads": ({}, {"heads": [1]}),
    "query_range": ({}, {"query_range": (2, 4)}),
    "layout": ({"attn": np.stack([HALF, HALF])}, {"layout": "bhqk"}),
    "part": ({}, {"part": "encoder"}),
    "device": ({}, {"device": "nowhere"}),
    "backend": ({}, {"backend": "reference"}),
    "threads": ({"threads": 1}, {"threads": 2}),
    "stats": ({}, {"stats": "entropy"}),
    "token_ids": ({"stats": "heads"}, {"token_ids": IDS}),
    "word_ids": ({"stats": "heads", "token_ids": IDS}, {"word_ids": WORD_IDS}),
    "nonfinite": ({"attn": np.where(HALF > 0.3, np.nan, HALF)}, {"nonfinite": "skip"}),
    "max_edges": ({}, {"max_edges": 3}),
}


def answer(function, **how):
    """All that a graph says, or the sentence of the failure."""
    try:
        graph = function(**how)
    except ag.Error as error:
        return str(error)
    heads = [graph.csr(s.layer, s.head, s.batch) for s in graph.slices]
    edges = [(csr.indptr.tolist(), csr.indices.tolist(), csr.data.round(6).tolist()) for csr in heads]
    rows = [graph.rows(s.layer, s.head, s.batch).entropy.tolist() for s in graph.slices]
    facts = dict(graph.metadata)
    told = [graph.tokens, graph._result.labels(True), facts, graph.report]
    if how.get("stats") in ("tokens", "heads"):
        table = graph.heads(partial=True)
        told += [(name, table[name].tolist()) for name in table.columns if name.endswith("share")]
    return repr(([tuple(s[:6]) for s in graph.slices], edges, rows, told))


@pytest.mark.parametrize(
    ("function", "table", "plain"),
    [(ag.extract, EXTRACT, {"q": Q, "k": K, "threshold": 0.05}), (ag.from_matrix, MATRIX, {"attn": HALF})],
    ids=["extract", "from_matrix"],
)
def test_every_keyword_changes_something(function, table, plain):
    assert set(table) == set(inspect.signature(function).parameters), "a keyword without a row, or a row without one"
    for name, (both, change) in table.items():
        assert name in change
        before, after = answer(function, **plain | both), answer(function, **plain | both | change)
        assert before != after, name


def test_the_record_of_options_has_every_keyword_that_the_library_reads():
    # What is done with tensors before, and with the graph after.
    elsewhere = {"q", "k", "layers", "layout", "tokens", "query_tokens", "device", "budget", "head_budget", "out"}
    own, keywords = {field.name: field.default for field in dataclasses.fields(Options)}, inspect.signature(ag.extract).parameters
    assert set(own) == set(keywords) - elsewhere
    assert {name for name, default in own.items() if default != keywords[name].default} == {"causal"}
