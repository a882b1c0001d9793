# SPDX-License-Identifier: Apache-2.0
"""What callers say about a part of a graph, as the library reads it."""

import numpy as np

from . import _values
from .errors import ArgumentError, NotFoundError

_MOST = np.iinfo(np.int64).max


def part_of(
    graph,
    threshold=0.0,
    *,
    top_k=None,
    layers=None,
    heads=None,
    queries=None,
    keys=None,
    distance=None,
    without_first=False,
    query_tokens=None,
    key_tokens=None,
):
    part = {"threshold": _values.number(threshold, "threshold")}
    if top_k is not None:
        part["top_k"] = _values.positive(top_k, "top_k")
    if layers is not None:
        part["layers"] = _values.chosen(layers, "layers", sorted({s.layer for s in graph._slices}))
    if heads is not None:
        heads = list(heads) if hasattr(heads, "__next__") else heads
        pairs = [head for head in heads if isinstance(head, (tuple, list))] if isinstance(heads, (list, tuple, set)) else []
        if pairs and len(pairs) < len(heads):
            raise ArgumentError("heads holds numbers and pairs; give heads, or (layer, head) pairs")
        if pairs:
            part["layer_heads"] = [_pair(pair, "heads") for pair in pairs]
        else:
            part["heads"] = _values.chosen(heads, "heads", sorted({s.head for s in graph._slices}))
    if queries is not None:
        part["query_begin"], part["query_end"] = _range(queries, "queries")
    if keys is not None:
        part["key_begin"], part["key_end"] = _range(keys, "keys")
    if _values.flag(without_first, "without_first"):
        part["key_begin"], part["key_end"] = max(part.get("key_begin", 0), 1), part.get("key_end", _MOST)
    if distance is not None:
        least, most = _values.span(distance, "distance")
        part["distance_min"] = np.iinfo(np.int64).min if least is None else least
        part["distance_max"] = _MOST if most is None else most
    for name, wanted in (("query", query_tokens), ("key", key_tokens)):
        if wanted is not None:
            part[f"{name}_positions"] = _positions(graph, wanted, f"{name}_tokens")
    return part


def with_budget(sink, budget, head_budget):
    """The sink, which keeps the heaviest edges alone."""
    edges = 0 if budget is None else _values.positive(budget, "budget")
    sink.set_budget(edges, 0 if head_budget is None else _values.positive(head_budget, "head_budget"))
    return sink


def _pair(pair, name):
    layer, head = _values.span(pair, name)
    return _values.integer(layer, name), _values.integer(head, name)


def _range(pair, name):
    begin, end = _values.span(pair, name)
    begin, end = 0 if begin is None else begin, _MOST if end is None else end
    if not 0 <= begin < end:
        raise ArgumentError(f"{name} is {pair!r}, which holds nothing; it is (begin, end) with 0 <= begin < end")
    return begin, end


def _positions(graph, wanted, name):
    """Where tokens stand whose text is one of those wanted: among the keys, or, when the queries are another sequence,
    among those."""
    side = "queries" if name == "query_tokens" and graph._result.two_sided() else "keys"
    tokens = graph.labels(side)
    if not tokens:
        raise ArgumentError(f"{name} names tokens, but the {side} have none; make the graph with tokens=")
    if isinstance(tokens[0], list):
        raise ArgumentError(f"{name}: every sequence has words of its own, and a position is one for all; give {side}=")
    wanted = {wanted} if isinstance(wanted, str) else set(map(str, _values.listed(wanted, name)))
    found = [p for p, token in enumerate(tokens) if token in wanted or token.strip(" \n\t\u0120\u010a\u2581") in wanted]
    if not found:
        raise NotFoundError(f"none of the tokens is {' or '.join(map(repr, sorted(wanted)))}")
    return found
