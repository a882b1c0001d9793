# SPDX-License-Identifier: Apache-2.0
"""Attention graphs out of the files that vLLM-Hook writes while vLLM runs: queries and keys after rotary embedding.

A run is a folder with one ``tp_rank_<n>`` per tensor-parallel rank, each with ``qk.safetensors`` and its ``qk.json``, or
with ``qk.pt``. Layouts follow the writers of https://github.com/IBM/vLLM-Hook; files of the three kinds below are read:
passes side by side (padded, or in lists), one key sequence with the lengths it had at every pass, last tokens only.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from . import _native, _values
from ._inputs import chosen_layers, of_layer
from ._inputs import tensor as view_of
from ._labels import token_bytes
from ._optional import optional
from ._options import Options, ids_at
from ._questions import words_of
from ._stitch import Place, stitched
from .errors import ArgumentError, FormatError, NotFoundError, ShapeError, UnsupportedError
from .graph import Graph

__all__ = ["read"]


def read(
    path: str | os.PathLike[str],
    threshold: float = 0.05,
    *,
    layers: int | Sequence[int] | None = None,
    heads: Any = None,
    scale: Any = None,
    window: Any = None,
    softcap: Any = None,
    sinks: Any = None,
    alibi: Any = None,
    tokens: Sequence[Sequence[str | bytes]] | None = None,
    top_k: int | None = None,
    mass: float | None = None,
    stats: str | Sequence[str] = (),
    token_ids: Sequence[Any] | None = None,
    threads: int | None = None,
    max_edges: int | None = None,
    nonfinite: Literal["error", "skip"] = "error",
) -> list[Graph]:
    """Read the graphs of a vLLM-Hook run, one per sequence.

    Parameters
    ----------
    path : path
        The folder of a run, or one ``qk.safetensors`` (with ``qk.json`` beside it) or ``qk.pt`` (which needs torch).
    threshold : float
        Keep ``weight >= threshold``, as `attngraph.extract` does.
    layers, heads : optional
        Which; all that were recorded unless given.
    scale : float, optional
        Factor of the scores; the file's attention_multiplier unless given.
    window, softcap, sinks, alibi : optional
        As in `attngraph.extract`, also as ``{layer: value}``. The files do not hold them: a model that has a sliding
        window, a softcap, sinks or biases by distance gets wrong edges unless they are given.
    tokens, token_ids : sequence of sequences, optional
        Labels of the positions, and their ids, for every sequence.
    top_k, mass, stats, threads, max_edges, nonfinite : optional
        As in `attngraph.extract`; `max_edges` holds for every layer and pass apart.

    Returns
    -------
    list of Graph
        In the order of the file. The queries of a pass end at its last key; passes of one sequence become one graph.

    Raises
    ------
    FormatError, NotFoundError
        A broken file; a folder without one, or with the shards of some ranks only.
    UnsupportedError
        Scores or quantised tensors in place of queries and keys; decoding passes without the keys before them.

    Examples
    --------
    >>> import attngraph as ag
    >>> from attngraph.vllm_hook import read
    >>> try:
    ...     graphs = read("hooks/run-1", threshold=0.05)
    ... except ag.errors.NotFoundError as error:
    ...     print(error)
    hooks/run-1 is neither a file nor a folder
    """
    run = _merged([_shard(file) for file in _files(_values.path(path))])
    wanted = chosen_layers(run.layers, layers)
    count = len(run.layers[wanted[0]]) if wanted else 0
    if any(len(run.layers[layer]) != count for layer in wanted):
        raise FormatError("the layers hold different numbers of sequences")
    for name, given in (("tokens", tokens), ("token_ids", token_ids)):
        if given is not None and len(given) != count:
            raise ArgumentError(f"{name} is of {len(given)} sequences; the run has {count}")
    selection = Options(
        threshold=threshold, top_k=top_k, mass=mass, threads=threads, max_edges=max_edges, nonfinite=nonfinite,
        stats=_values.kept(stats), causal=True,
    )  # fmt: skip
    scores = {"heads": heads, "scale": scale, "window": window, "softcap": softcap, "sinks": sinks, "alibi": alibi}
    context = _native.Context("cpu")
    return [
        _graph(
            run, wanted, i, context, selection, scores, None if tokens is None else tokens[i],
            None if token_ids is None else token_ids[i],
        )
        for i in range(count)
    ]  # fmt: skip


class _Pass(NamedTuple):
    """Queries [Nq, Hq D] and the keys [Nk, Hkv D] that the last of them saw."""

    q: np.ndarray
    k: np.ndarray


class _Shard(NamedTuple):
    """What one file holds. layers: {number: one list of passes per sequence}."""

    config: dict
    layers: dict
    place: dict  # heads of this rank, where the file says them
    bfloat16: bool
    file: str


# ----------------------------------------------------------------------------------------------------------------------
# files


def _files(path):
    if os.path.isfile(path):
        return [path]
    if not os.path.isdir(path):
        raise NotFoundError(f"{path} is neither a file nor a folder")
    folders = sorted(
        (name for name in os.listdir(path) if re.fullmatch(r"tp_rank_\d+", name)), key=lambda name: int(name[8:])
    )
    for name in ("qk.safetensors", "qk.pt"):
        files = [os.path.join(path, folder, name) for folder in folders or [""]]
        there = [file for file in files if os.path.isfile(file)]
        if there and len(there) < len(files):
            raise NotFoundError(f"{set(files) - set(there)} are missing: every rank holds other heads")
        if there:
            return there
    raise NotFoundError(f"{path} holds no qk.safetensors and no qk.pt, nor do folders tp_rank_<n> in it")


def _shard(file):
    return _torch_shard(file) if file.endswith(".pt") else _safetensors_shard(file)


def _torch_shard(file):
    torch = optional("torch", "reading qk.pt")
    try:
        cache = torch.load(file, map_location="cpu", weights_only=True)
        config, entries = cache["config"], cache["qk_cache"]
    except Exception as error:
        raise FormatError(f"{file} is no file of queries and keys: {error}") from None
    layers, bfloat16 = {}, False
    for module, entry in entries.items():
        _refuse_other_captures(file, module, entry)
        q = [_array(t) for t in entry["q"]]
        if "k_full" in entry:
            k = [_array(t) for t in entry["k_full"]]
            sequences = _prefixes(q, k, entry["k_prefix_ends"], file)
        else:
            k = [_array(t) for t in entry["k_all"]]
            sequences = _side_by_side(q, k, file)
        bfloat16 = entry["q"][0].dtype == torch.bfloat16
        layers[_number(entry, module)] = sequences
    return _Shard(config, layers, cache.get("tp_shard") or {}, bfloat16, file)


def _array(tensor):
    """A tensor of torch in NumPy, bfloat16 as its bits."""
    import torch

    return tensor.view(torch.int16).numpy().view(np.uint16) if tensor.dtype == torch.bfloat16 else tensor.numpy()


def _refuse_other_captures(file, module, entry):
    if "scores" in entry or entry.get("capture") == "score":
        raise UnsupportedError(f"{file}: {module} holds attention scores, not queries and keys")
    if any(name.endswith("_qmeta") and entry[name] is not None for name in entry):
        raise UnsupportedError(f"{file}: {module} is quantised; record it without quantisation")


def _safetensors_shard(file):
    tensors = _native.File(file)
    names = set(tensors.names())
    sidecar = file.removesuffix(".safetensors") + ".json"
    try:
        with open(sidecar, encoding="utf-8") as text:
            facts = json.load(text)
        config, order = facts["config"], facts["layer_order"]
        wanted = [(str(item["key_q"]), str(item["key_k"])) for item in order]
    except FileNotFoundError:
        raise NotFoundError(f"{sidecar} is missing; it says what the tensors of {file} are") from None
    except (ValueError, TypeError, KeyError) as error:
        raise FormatError(f"{sidecar} does not say what the tensors are: {error!r}") from None
    layers, bfloat16 = {}, False
    for item, pair in zip(order, wanted):
        if not names.issuperset(pair):
            raise FormatError(f"{sidecar} names {' and '.join(sorted(set(pair) - names))}, which {file} does not hold")
        q, k = map(tensors.read, pair)
        bfloat16 = tensors.dtype(pair[0]) == "bf16"
        mode = item.get("hookq_mode", facts.get("hookq_mode", "all_tokens"))
        layers[_number(item, item.get("module_name"))] = _sequences(q, k, mode, facts, file)
    return _Shard(config, layers, facts.get("tp_shard") or {}, bfloat16, file)


def _sequences(q, k, mode, facts, file):
    both = facts.get("seq_lens")
    q_lengths, k_lengths = facts.get("q_seq_lens", both), facts.get("k_seq_lens", both)
    if mode == "all_tokens" and facts.get("compact_all_tokens"):
        return _prefixes(_cut(q, q_lengths, file), _cut(k, facts["k_full_lens"], file), facts["k_prefix_ends"], file)
    if mode not in ("all_tokens", "last_token"):
        raise UnsupportedError(f"{file} was recorded with hookq_mode {mode!r}; all_tokens and last_token can be read")
    k = [k[i, :n] for i, n in enumerate(k_lengths or [k.shape[1]] * len(k))]
    if mode == "last_token":
        return _side_by_side(list(q), k, file)
    return _side_by_side([q[i, :n] for i, n in enumerate(q_lengths or [q.shape[1]] * len(q))], k, file)


def _cut(rows, lengths, file):
    ends = np.cumsum(lengths or [])
    if not len(ends) or ends[-1] != len(rows):
        raise FormatError(f"{file}: {len(rows)} rows are to be cut into {lengths}")
    return np.split(rows, ends[:-1])


def _prefixes(q, k, ends_of, file):
    """Sequences of passes that each saw the keys up to an end."""
    steps, sequences = iter(q), []
    if len(k) != len(ends_of) or len(q) != sum(map(len, ends_of)):
        raise FormatError(f"{file}: {len(q)} passes of {len(k)} sequences do not fit the ends of their keys")
    for keys, ends in zip(k, ends_of):
        sequences.append([_Pass(next(steps), keys[: int(end)]) for end in ends])
    return sequences


def _side_by_side(q, k, file):
    """A sequence per pass; a query of the last token alone has no dimension of its own."""
    if len(q) != len(k):
        raise FormatError(f"{file}: {len(q)} passes have queries and {len(k)} have keys")
    sequences = [[_Pass(queries.reshape(-1, queries.shape[-1]), keys)] for queries, keys in zip(q, k)]
    if len(sequences) > 1 and any(len(passes[0].k) == 1 for passes in sequences):
        raise UnsupportedError(
            f"{file} has passes with a single key: decoded tokens without the keys before them. Record prompts only "
            "(max_tokens=1), or with a vLLM-Hook that keeps the keys"
        )
    return sequences


def _number(entry, module):
    try:
        return int(entry["layer_num"])
    except (KeyError, TypeError, ValueError):
        raise FormatError(f"{module} does not say which layer it is") from None


# ----------------------------------------------------------------------------------------------------------------------
# ranks and graphs


def _merged(shards):
    """One shard out of those of all ranks: heads side by side; keys that ranks share, once."""
    first = shards[0]
    size = int(first.place.get("tp_size", len(shards)))
    if len(shards) != size:
        raise NotFoundError(f"{first.file} is the shard of one rank of {size}; {len(shards)} are here")
    if size == 1:
        return first
    if any(shard.layers.keys() != first.layers.keys() for shard in shards):
        raise FormatError("the ranks recorded different layers")
    of_keys = {}
    for rank, shard in enumerate(shards):
        of_keys.setdefault(int(shard.place.get("kv_head_start", rank)), shard)
    layers = {}
    for layer, sequences in first.layers.items():
        layers[layer] = []
        for i, passes in enumerate(sequences):
            try:
                layers[layer].append(
                    [
                        _Pass(
                            np.concatenate([shard.layers[layer][i][j].q for shard in shards], axis=-1),
                            np.concatenate([of_keys[h].layers[layer][i][j].k for h in sorted(of_keys)], axis=-1),
                        )
                        for j in range(len(passes))
                    ]
                )
            except (IndexError, ValueError) as error:
                raise FormatError(f"the ranks recorded different passes of layer {layer}: {error}") from None
    return first._replace(layers=layers)


def _heads_of(run, q, k, scale):
    """Heads, key heads, the size of a head and the scale. The tensors say how large a head is: the recorded head_dim is
    hidden_size / heads, which some models (Qwen3, Gemma) do not keep to."""
    try:
        heads, key_heads = int(run.config["num_attention_heads"]), int(run.config["num_key_value_heads"])
        recorded = int(run.config["head_dim"])
        multiplier = float(run.config["attention_multiplier"]) if scale is None else 1.0
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{run.file}: the model's config lacks {error}") from None
    if min(heads, key_heads) < 1 or q.shape[1] % heads or q.shape[1] // heads * key_heads != k.shape[1]:
        raise ShapeError(
            f"{run.file}: queries are {q.shape[1]} wide and keys {k.shape[1]}, which {heads} heads and {key_heads} key "
            "heads of one size cannot be"
        )
    size = q.shape[1] // heads
    if scale is None and size != recorded and abs(multiplier * recorded**0.5 - 1) < 1e-4:
        raise UnsupportedError(
            f"{run.file}: heads are {size} wide, but the recorded scale {multiplier:.6g} is that of head_dim {recorded}; "
            f"give scale=, which is {size**-0.5:.6g} (1 / sqrt({size})) for most models"
        )
    return heads, key_heads, size, multiplier if scale is None else scale


def _graph(run, wanted, sequence, context, selection, scores, tokens, token_ids):
    words = None if tokens is None else words_of(tokens)
    if token_ids is None and tokens is not None:  # equal texts are equal tokens
        token_ids = np.unique(np.array(token_bytes(tokens), dtype=object), return_inverse=True)[1]
    passes = max(len(run.layers[layer][sequence]) for layer in wanted)
    pieces = []
    for j in range(passes):
        sink = _native.Sink.collect()
        for layer in wanted:
            q, k = run.layers[layer][sequence][j]
            own = {name: of_layer(value, layer, False) for name, value in scores.items()}
            heads, key_heads, size, scale = _heads_of(run, q, k, own["scale"])
            options = dataclasses.replace(
                selection, **{**own, "scale": scale}, layer=layer, token_ids=ids_at(token_ids, 0, len(k), "token_ids"),
                word_ids=ids_at(words, 0, len(k), "tokens"),
            ).native(range(heads))  # fmt: skip
            views = (
                _view(array.reshape(len(array), count, size).transpose(1, 0, 2), run.bfloat16)
                for array, count in ((q, heads), (k, key_heads))
            )
            context.extract(*views, options, sink)
        pieces.append((Graph(sink.take_result()), Place(len(k) - len(q), 0)))
    return stitched(pieces, tokens)


def _view(array, bfloat16):
    return _native.Tensor(array, "tensor", as_bfloat16=True) if bfloat16 else view_of(array, "tensor")
