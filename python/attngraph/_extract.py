# SPDX-License-Identifier: Apache-2.0
"""The functions that make graphs out of tensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

from . import _contexts, _generated, _native, _parts, _values
from ._inputs import chosen_layers, is_array, layers_of, nested, numbers, of_layer, tensor
from ._labels import Labels, is_many, listed, require_one_each, set_labels, without_last
from ._options import Options
from ._stitch import stitched
from .device_graph import DeviceGraph
from .errors import ArgumentError, ShapeError, UnsupportedError
from .graph import Graph


def extract(
    q: Any,
    k: Any = None,
    threshold: float = 0.05,
    *,
    scale: Any = None,
    causal: bool = True,
    query_offset: int | None = None,
    mask: Any = None,
    key_lengths: Sequence[int] | None = None,
    window: Any = None,
    softcap: Any = None,
    sinks: Any = None,
    alibi: Any = None,
    lse: Any = None,
    lse_base: Literal["e", "2"] = "e",
    top_k: int | None = None,
    mass: float | None = None,
    allow_dense: bool = False,
    layers: int | Sequence[int] | None = None,
    layer: int = 0,
    heads: Any = None,
    query_range: tuple[int, int] | None = None,
    layout: Literal["bhsd", "bshd"] = "bhsd",
    tokens: Labels | None = None,
    query_tokens: Labels | None = None,
    device: str = "auto",
    backend: str | None = None,
    threads: int | None = None,
    decision: Literal["fast", "certified"] = "fast",
    products: Literal["auto", "float"] = "auto",
    stats: str | Sequence[str] = (),
    token_ids: Any = None,
    word_ids: Any = None,
    nonfinite: Literal["error", "skip"] = "error",
    max_edges: int | None = None,
    budget: int | None = None,
    head_budget: int | None = None,
    out: Literal["host", "device"] = "host",
    stream: Any = None,
    workspace_bytes: int | None = None,
) -> Graph | DeviceGraph:
    """Make the graph of all pairs whose softmax weight reaches the threshold.

    The weights are those of ``softmax(scale * q @ k.T)``; the matrix itself is never stored, so memory grows with the
    input and the answer. Arrays are read in place through DLPack or the buffer protocol, whatever their strides.

    Parameters
    ----------
    q : array [B, Hq, Nq, D], [Hq, Nq, D] or [Nq, D]
        Queries: NumPy, PyTorch, JAX, CuPy or anything else with ``__dlpack__``, in float16, bfloat16, float32 or
        float64. For many layers: a list of arrays, ``{layer: q}``, ``{layer: (q, k)}`` (then without `k`), or an array
        [L, B, Hq, Nq, D]; parameters that may differ between layers (mask, window, scale, softcap, sinks, lse, heads;
        alibi as ``{layer: value}`` only) may then be lists or ``{layer: value}`` too.
    k : array [B, Hkv, Nk, D], [Hkv, Nk, D] or [Nk, D]
        Keys of the same type; Hq is a multiple of Hkv, and query head h reads key head ``h // (Hq // Hkv)``.
    threshold : float
        Keep ``weight >= threshold``, in (0, 1]; 0 only with `top_k`, `mass` or `allow_dense`.
    scale : float, optional
        Factor of the scores; 1 / sqrt(D) unless given.
    causal : bool
        Query i sees the keys up to ``i + query_offset``.
    query_offset : int, optional
        Position of the first query among the keys. Unless given, the last query stands at the last key
        (``Nk - Nq``, bottom-right alignment): right for a decoder with a cache, where Nq < Nk.
    mask : array, optional
        Broadcasts to [B, Hq, Nq, Nk]: bool (True keeps) or float (added to the scores).
    key_lengths : sequence of int, optional
        Per batch element, how many keys exist (right padding).
    window : int, optional
        Sliding window: only keys nearer than this.
    softcap : float, optional
        Scores become ``softcap * tanh(score / softcap)``.
    sinks : array [Hq] or [B, Hq], optional
        One more logit per head in the denominator.
    alibi : "standard" or array [Hq] or [B, Hq], optional
        Attention with linear biases: the slope m of each query head takes ``m * abs(i + query_offset - j)`` from the
        score of query i and key j. "standard" is ``alibi_slopes(Hq)``.
    lse : array [B, Hq, Nq], optional
        The logsumexp of every row where it is known already; one pass then suffices. `lse_base` is "e" or "2".
    top_k, mass : optional
        Further conditions, which hold together with the threshold: at most so many of the heaviest keys of a query;
        the smallest set of heaviest keys that holds so much probability.
    allow_dense : bool
        Let threshold 0 keep every allowed pair.
    layers : sequence of int, optional
        Of many layers, which; all unless given.
    layer : int
        Label of a single layer.
    heads : sequence of int, optional
        Query heads to compute; all unless given.
    query_range : (int, int), optional
        Only the rows from begin to end; positions stay those of the whole.
    layout : {"bhsd", "bshd"}
        Order of the dimensions of q and k: [..., H, N, D] or [..., N, H, D].
    tokens : sequence of str or bytes, or one sequence for each element of the batch, optional
        Labels of the positions, one per key.
    query_tokens : as tokens, optional
        Labels of the queries where they are another sequence than the keys (cross attention), one per query.
    device, backend, threads : optional
        Where and how; "auto", the best backend and all allowed cores unless given. Results do not depend on threads.
    decision : {"fast", "certified"}
        How pairs near the threshold are decided. "fast" decides every pair right that is farther from the threshold
        than ``graph.report.eps``. "certified" decides all of them exactly, whatever selects, so that the edges are the
        same on every backend and machine; with tensors in device memory it raises `UnsupportedError`.
    products : {"auto", "float"}
        How the CPU multiplies queries and keys: "auto" by pairs of bf16 where the processor has that and the type of the
        input gains by it, "float" never. Either decides every pair outside the band right.
    stats : sequence of {"entropy", "columns", "distances", "tokens", "heads"}
        Further statistics beside the edges: `Graph.rows` and `Graph.columns` answer them. "heads" is all that
        `Graph.heads` answers: entropy, columns, distances and, where tokens or token ids are given, tokens.
    token_ids, word_ids : array of int [Nk] or [B, Nk], optional
        Which token and which word stands at every key, negative for none, for the statistics of tokens: attention on
        earlier copies of a token, on what follows them, within a word. Unless given, the texts of `tokens` say it.
    nonfinite : {"error", "skip"}
        NaN and infinity fail the call, or are left out and counted.
    max_edges : int, optional
        More edges than this in one layer fail with `LimitError`, which says how many there are.
    budget, head_budget : int, optional
        Keep only so many of the heaviest edges: of the whole graph, of every head of a layer and sequence. Of equally heavy
        ones the first. Never more than twice as many are held. Graphs that are there already have ``g.filter(budget=...)``.
    out : {"host", "device"}
        Where the edges are wanted: "device" leaves those of one layer in the memory of the CUDA device that made them.
    stream : optional
        A CUDA stream, as a number or as PyTorch's or CuPy's object, in whose order arrays on a device are read, and
        with ``out="device"`` the edges are ready: then nobody waits for them. Unless given, arrays are read after what
        is queued on the default stream, where their library orders them by itself, and the edges are complete when
        this returns.
    workspace_bytes : int, optional
        CUDA: device memory beside inputs and answer, on each device; an eighth of it, at most 2 GiB, unless given.

    Returns
    -------
    Graph
        With one slice per (batch, layer, head), in that order. With ``out="device"`` a `DeviceGraph`.

    Raises
    ------
    Error
        A subtype that is also a ValueError, TypeError, OSError, MemoryError or RuntimeError.
    KeyboardInterrupt
        On Ctrl-C, within about a tenth of a second.

    Examples
    --------
    >>> import numpy as np, attngraph as ag
    >>> rng = np.random.default_rng(0)
    >>> q, k = rng.standard_normal((2, 4, 256, 64)).astype(np.float32)
    >>> ag.extract(q, k, threshold=0.05)
    <attngraph.Graph: 1 batch x 1 layer x 4 heads, 256 queries x 256 keys, 2,031 edges, 19.7 % of the mass kept>
    """
    pairs, many = layer_pairs(q, k, layers, layer)
    of_all = Options(
        threshold=threshold, causal=causal, query_offset=query_offset, key_lengths=_values.kept(key_lengths), top_k=top_k,
        mass=mass, allow_dense=allow_dense, lse_base=lse_base, query_range=query_range, backend=backend, threads=threads,
        decision=decision, products=products, stats=_values.kept(stats), token_ids=token_ids, word_ids=word_ids,
        nonfinite=nonfinite, max_edges=max_edges, stream=stream, workspace_bytes=workspace_bytes,
    )  # fmt: skip
    by_layer = {
        "scale": scale, "mask": mask, "window": window, "softcap": softcap, "sinks": sinks, "lse": lse, "heads": _values.kept(heads),
    }  # fmt: skip
    sink, words = _collector(tokens, query_tokens)
    _parts.with_budget(sink, budget, head_budget)
    on_device = _values.one_of(out, "out", "host", "device") == "device"
    if on_device and len(pairs) != 1:
        raise ArgumentError(f"out='device' is of one layer, and there are {len(pairs)}; call extract for each")
    if on_device and (budget is not None or head_budget is not None):
        raise UnsupportedError("a budget is kept on the host; leave it out, or take out='host'")
    with _contexts.on(_values.device(device)) as context:
        for label, (queries, keys) in pairs.items():
            queries, keys = _laid_out(queries, "q", layout), _laid_out(keys, "k", layout)
            options = dataclasses.replace(
                of_all,
                layer=label,
                alibi=of_layer(alibi, label, False),  # a list has a slope for each head
                **{name: of_layer(value, label, many and has_one_per_layer(name, value)) for name, value in by_layer.items()},
            ).native(_heads_of(queries), _label_all(tokens))
            if on_device:
                made = context.extract_on_device(queries, keys, options)
                return DeviceGraph(made, keys.shape[-2], tokens, query_tokens)
            context.extract(queries, keys, options, sink)
    return require_one_each(words, Graph(sink.take_result()))


def from_matrix(
    attn: Any,
    threshold: float = 0.05,
    tokens: Labels | None = None,
    *,
    query_tokens: Labels | None = None,
    causal: bool = False,
    query_offset: int | None = None,
    mask: Any = None,
    key_lengths: Sequence[int] | None = None,
    window: Any = None,
    top_k: int | None = None,
    mass: float | None = None,
    layers: int | Sequence[int] | None = None,
    layer: int = 0,
    heads: Any = None,
    query_range: tuple[int, int] | None = None,
    layout: Literal["lhqk", "bhqk"] = "lhqk",
    part: Literal["encoder", "decoder", "cross"] | None = None,
    device: str = "auto",
    backend: str | None = None,
    threads: int | None = None,
    stats: str | Sequence[str] = (),
    token_ids: Any = None,
    word_ids: Any = None,
    nonfinite: Literal["error", "skip"] = "error",
    max_edges: int | None = None,
) -> Graph:
    """Make the graph of a ready attention matrix: all pairs whose weight reaches the threshold.

    Weights are compared exactly, as stored and promoted to float64, and keep their value. Rows need not be
    normalised.

    Parameters
    ----------
    attn : array or nested list
        [S, S]; [H, S, S]; [L, H, S, S] (with ``layout="bhqk"``: [B, H, S, S]); [L, B, H, S, S]; or what transformers
        returns as ``attentions``, a tuple with [B, H, S, S] per layer. Also ``{layer: array}``. Queries and keys may
        differ in number. What ``generate(..., return_dict_in_generate=True, output_attentions=True)`` gives, a tuple
        of layers for every step, becomes one graph of prompt and answer. An output of transformers may be given whole;
        after beam search it must be, since its ``beam_indices`` say whose rows are whose.
    threshold : float
        Keep ``weight >= threshold``; 0 keeps every pair.
    tokens : sequence of str or bytes, or one sequence for each element of the batch, optional
        Labels of the positions, one per key.
    query_tokens : as tokens, optional
        Labels of the queries where they are another sequence than the keys (cross attention), one per query.
    causal : bool
        Keep only keys up to the query, whatever the matrix holds beyond. The remaining parameters are those of
        `extract`.
    part : {"encoder", "decoder", "cross"}, optional
        Of an encoder-decoder model, which attentions; the graph says so in ``metadata["attention"]``.
    layout : {"lhqk", "bhqk"}
        What the first dimension of a four-dimensional array is.

    Returns
    -------
    Graph
        Its weights are float64 for a float64 matrix (and for lists and integers), float32 otherwise.

    Examples
    --------
    >>> import attngraph as ag
    >>> g = ag.from_matrix([[1.0, 0.0], [0.25, 0.75]], threshold=0.25, tokens=["a", "b"])
    >>> [(e.query, e.key, e.weight) for e in g.top(3)]
    [(0, 0, 1.0), (1, 1, 0.75), (1, 0, 0.25)]
    """
    how = Options(
        threshold=threshold, causal=causal, query_offset=query_offset, key_lengths=_values.kept(key_lengths), top_k=top_k,
        mass=mass, query_range=query_range, backend=backend, threads=threads, stats=_values.kept(stats), nonfinite=nonfinite,
        max_edges=max_edges, token_ids=token_ids, word_ids=word_ids,
    )  # fmt: skip
    by_layer = {"mask": mask, "window": window, "heads": _values.kept(heads)}
    where = _values.device(device)
    if part is not None:
        _values.one_of(part, "part", "encoder", "decoder", "cross")
    weights, beams = _generated.weights_of(attn, part)
    if not _generated.is_steps(weights):
        matrices, many = _matrices(weights, layers, layer, layout)
        sink, words = _collector(tokens, query_tokens, part)
        _filter(where, matrices, many, sink, by_layer, how, _label_all(tokens))
        return require_one_each(words, Graph(sink.take_result()))

    given = {
        "token_ids": token_ids, "word_ids": word_ids, "mask": mask, "key_lengths": key_lengths,
        "query_range": query_range, "query_offset": query_offset,
    }  # fmt: skip
    for name, value in given.items():
        if value is not None:
            raise UnsupportedError(f"{name} with the steps of a generation; filter them one by one, and concat the graphs")
    pieces, part = _generated.placed(weights, part, beams)
    wanted = chosen_layers(set().union(*(matrices for matrices, _ in pieces)), layers)
    made = []
    for matrices, place in pieces:
        here = {label: matrices[label] for label in wanted if label in matrices}
        if here:
            sink = _native.Sink.collect()
            placed = dataclasses.replace(how, query_offset=place.query_begin - place.key_begin)
            _filter(where, here, True, sink, by_layer, placed, False)  # tokens label the whole
            made.append((Graph(sink.take_result()), place))
    facts = {"query_offset": "0", **({} if part is None else {"attention": part})}
    # The word generated last was never read: it has a label, but no position.
    keys = max(place.key_begin + s.key_count for graph, place in made for s in graph.slices)
    queries = max(place.query_begin + s.query_count for graph, place in made for s in graph.slices)
    tokens = tokens if part == "cross" else without_last(tokens, keys)
    return stitched(made, tokens, facts, without_last(query_tokens, queries))


def _label_all(tokens):
    """Whether tokens label the positions of every sequence alike: then they say which tokens are equal, too."""
    return tokens is not None and hasattr(tokens, "__len__") and not is_many(listed(tokens))


def _filter(where, matrices, many, sink, by_layer, how, has_tokens):
    """Send the edges of every matrix into a sink."""
    with _contexts.on(where) as context:
        for label, matrix in matrices.items():
            matrix = numbers(matrix, "attn")
            own = {name: of_layer(value, label, many and has_one_per_layer(name, value)) for name, value in by_layer.items()}
            options = dataclasses.replace(how, layer=label, **own).native(_heads_of(matrix), has_tokens)
            context.filter(matrix, options, sink)


def _collector(tokens, query_tokens, part=None):
    sink = _native.Sink.collect()
    counts = set_labels(sink, tokens, query_tokens)
    if part is not None:
        sink.set_metadata("attention", part)
    return sink, counts


def layer_pairs(q, k, layers, layer):
    """``{layer: (q, k)}`` and whether the caller gave many layers."""
    if k is None:
        if not isinstance(q, dict):
            raise ArgumentError("k is missing; only {layer: (q, k)} goes without it")
        pairs = {_label(label): pair for label, pair in q.items()}
        for label, pair in pairs.items():
            if not isinstance(pair, (list, tuple)) or len(pair) != 2:
                raise ArgumentError(f"layer {label} has no pair (q, k); without k the values of a dict are pairs")
    else:
        queries, keys = layers_of(q, "q", 5), layers_of(k, "k", 5)
        if queries is None and keys is None:
            if layers is not None:
                raise ArgumentError("layers chooses among many layers; q and k are of one, whose label is layer=")
            return {_label(layer): (q, k)}, False
        if queries is None or keys is None or queries.keys() != keys.keys():
            raise ShapeError("q and k have different layers; give both for the same ones")
        pairs = {label: (queries[label], keys[label]) for label in queries}
    return {label: pairs[label] for label in chosen_layers(pairs, layers)}, True


def _matrices(attn, layers, layer, layout):
    _values.one_of(layout, "layout", "lhqk", "bhqk")
    if isinstance(attn, (list, tuple)) and layers_of(attn, "attn", 5) is None:
        attn = nested(attn)
    if is_array(attn):
        attn = numbers(attn, "attn")
    stacked = 4 if layout == "lhqk" and len(getattr(attn, "shape", ())) == 4 else 5
    matrices = layers_of(attn, "attn", stacked)
    if matrices is None:
        if layers is not None:
            raise ArgumentError("layers chooses among many layers; attn is of one, whose label is layer=")
        return {_label(layer): attn}, False
    return {label: matrices[label] for label in chosen_layers(matrices, layers)}, True


def _label(layer):
    return _values.integer(layer, "layer", least=0)


def has_one_per_layer(name, value):
    """Whether a list is one value per layer: for heads, [[0, 1], None, [2]] is. Scalar arrays have a length in name
    only."""
    return name != "heads" or (
        isinstance(value, (list, tuple))
        and any(h is None or (hasattr(h, "__len__") and getattr(h, "shape", None) != ()) for h in value)
    )


def _heads_of(view):
    return range(view.shape[-3] if len(view.shape) >= 3 else 1)


def _laid_out(array, name, layout):
    view = tensor(array, name)
    if _values.one_of(layout, "layout", "bhsd", "bshd") == "bhsd" or len(view.shape) < 3:
        return view
    return view.swapped(len(view.shape) - 3, len(view.shape) - 2)
