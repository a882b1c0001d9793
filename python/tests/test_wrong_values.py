# SPDX-License-Identifier: Apache-2.0
"""Whatever is handed to any public function, as any of its parameters: it is taken, or told by an attngraph.Error. The walk
finds functions, methods and parameters by itself; one that is new and takes no part fails here."""

import inspect

import numpy as np
import pytest

import attngraph as ag

RNG = np.random.default_rng(0)
WEIGHTS = RNG.dirichlet(np.ones(6), size=(2, 3, 6))
Q, K = RNG.standard_normal((2, 2, 6, 8)).astype(np.float32)
WORDS = ["un", "do", " it", ".", " the", " cat"]
GRAPH = ag.from_matrix(WEIGHTS, 0.05, tokens=WORDS, stats="heads", token_ids=list(range(6)))
SLICES = [(s, GRAPH.csr(s.layer, s.head), GRAPH.rows(s.layer, s.head)) for s in GRAPH.slices]


class Nothing:
    def __repr__(self):
        return "<Nothing>"


ODD = [None, "x", "", b"x", -1, 0, 1.5, 2**70, float("nan"), float("inf"), True, 1j, [], [None], ["a"], [[0]], (5, 2),
       (None, None), {}, {"a": 1}, {1, 2}, range(0), slice(0, 2), iter([1, 2]), np.array(1), np.array(True), np.array(["a"]),
       np.zeros((2, 2)), np.array([True, False]), Nothing(), len, GRAPH]  # fmt: skip

# What a call needs, by function; methods of Graph need nothing unless they are here.
CALLS = {
    "extract": (ag.extract, (Q, K)),
    "from_matrix": (ag.from_matrix, (WEIGHTS,)),
    "cache_loss": (lambda q, k, window=3, first=None, keys=None, heavy=None, sinks=None, layout="bhsd", scale=None, layers=None:
        ag.cache_loss(q, k, window=window, first=first, keys=keys, heavy=heavy, sinks=sinks, layout=layout, scale=scale,
                      layers=layers), (Q, K)),
    "extract_sharded": (ag.extract_sharded, (Q, [K])),
    "plan": (ag.plan, (Q, K)),
    "load": (ag.load, ("none.npz",)),
    "open": (ag.open, ("none",)),
    "concat": (ag.concat, ([GRAPH],)),
    "from_slices": (ag.from_slices, (SLICES,)),
    "a slice": (lambda s, csr, rows: ag.from_slices([(s, csr, rows)]), SLICES[0]),
    "from_pandas": (ag.from_pandas, (GRAPH.edges.to_dict(),)),
    "from_arrow": (ag.from_arrow, (GRAPH.edges,)),
    "from_networkx": (ag.from_networkx, (None,)),
    "attention_graph": (ag.attention_graph, (WEIGHTS[0, 0], WORDS)),
    "GraphistryBuilders.attention_graph": (ag.compat.GraphistryBuilders.attention_graph, (WEIGHTS[0, 0],)),
    "alibi_slopes": (ag.alibi_slopes, (4,)),
    "token_texts": (ag.token_texts, (WORDS,)),
    "head_view": (lambda *a, html_action="return", **how: ag.head_view(*a, html_action=html_action, **how), (WEIGHTS, WORDS)),
    "model_view": (lambda *a, html_action="return", **how: ag.model_view(*a, html_action=html_action, **how), (WEIGHTS, WORDS)),
    "vllm_hook.read": (ag.vllm_hook.read, ("none",)),
    "Session": (ag.Session, ()),
    "Session.append": (lambda k: ag.Session().append(k), (K,)),
    "Session.truncate": (lambda count: ag.Session().append(K).truncate(count), (3,)),
    "Session.common": (lambda k: ag.Session().append(K).common(k), (K,)),
    "Session.rows": (ag.Session().append(K).rows, (Q,)),
    "edges[]": (GRAPH.edges.__getitem__, ("key",)),
    "Table[]": (GRAPH.heads().__getitem__, ("layer",)),
    "Table.sort": (GRAPH.heads().sort, ("layer",)),
    "Table.head": (GRAPH.heads().head, (1,)),
}  # fmt: skip
METHODS = {
    "top": (3,), "sweep": ([0.1],), "diff": (GRAPH,), "align": (GRAPH,), "diff_heads": (GRAPH,), "diff_pairs": (GRAPH,),
    "flow": (5, 0), "heaviest_path": (5, 0), "save": ("g.npz",), "to_npz": ("g.npz",), "to_safetensors": ("g.safetensors",),
    "to_csv": ("g.csv",), "to_jsonl": ("g.jsonl",), "to_graphml": ("g.graphml",), "to_dot": ("g.dot",),
    "to_html": ("g.html",), "to_parquet": ("g.parquet",),
}  # fmt: skip
SIGNATURES = {"head_view": ag.head_view, "model_view": ag.model_view}
NOT_CALLED = {"backends", "release_memory"}  # take nothing
for _name, _method in inspect.getmembers(ag.Graph, inspect.isfunction):
    if not _name.startswith("_"):
        CALLS[f"Graph.{_name}"] = (getattr(GRAPH, _name), METHODS.get(_name, ()))


def test_every_public_function_takes_part():
    functions = {name for name in ag.__all__ if inspect.isfunction(getattr(ag, name))}
    assert functions - NOT_CALLED <= {name.partition(".")[0] for name in CALLS}


@pytest.mark.parametrize("name", CALLS)
def test_odd_values_are_taken_or_told(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    function, given = CALLS[name]
    if name == "from_networkx":
        given = (pytest.importorskip("networkx").DiGraph([(0, 1)]),)
    known = inspect.signature(SIGNATURES.get(name, function)).parameters.values()
    parameters = [p for p in known if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    for place, parameter in enumerate(parameters):
        for odd in ODD:
            if hasattr(odd, "__next__"):
                odd = iter([1, 2])
            arguments, keywords = list(given), {}
            if place < len(arguments):
                arguments[place] = odd
            else:
                keywords[parameter.name] = odd
            try:
                function(*arguments, **keywords)
            except ag.Error as error:
                assert str(error)
            except Exception as error:
                raise AssertionError(f"{name}({parameter.name}={odd!r}) raises {type(error).__name__}: {error}") from error
