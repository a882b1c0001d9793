# SPDX-License-Identifier: Apache-2.0
"""Attention graphs out of live Hugging Face models: listen while a model runs, keep the edges, store no matrix.

The model goes on computing with its own attention function, so its outputs stay what they were; queries, keys, mask,
scale, softcap and sinks are read on their way in.
"""

from __future__ import annotations

import inspect
import itertools
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from . import _native
from ._extract import _options, _score_options
from ._inputs import tensor
from ._optional import optional
from ._stitch import Place, stitched
from .errors import ArgumentError, Error, NotFoundError, UnsupportedError
from .graph import Graph, concat

if TYPE_CHECKING:
    import transformers

__all__ = ["Capture", "capture"]

_numbers = itertools.count(1)


def capture(
    model: transformers.PreTrainedModel,
    threshold: float = 0.05,
    *,
    layers: int | Sequence[int] | None = None,
    heads: int | Sequence[int] | None = None,
    tokens: Sequence[str | bytes] | None = None,
    top_k: int | None = None,
    mass: float | None = None,
    threads: int | None = None,
    max_edges: int | None = None,
    nonfinite: Literal["error", "skip"] = "error",
) -> Capture:
    """Make attention graphs of what a transformers model does inside a ``with`` block.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        With eager or sdpa attention. Of a model with several backbones give the one to look at, for instance
        ``model.model.language_model``.
    threshold : float
        Keep ``weight >= threshold``, as `attngraph.extract` does.
    layers : sequence of int, optional
        Layers to record; all unless given.
    heads : sequence of int, optional
        Query heads to record; all unless given.
    tokens : sequence of str or bytes, optional
        Labels of the positions; may also be set afterwards, as ``cap.tokens``.
    top_k, mass, threads, max_edges, nonfinite : optional
        As in `attngraph.extract`; `max_edges` holds for every layer and pass apart.

    Returns
    -------
    Capture
        A context manager; its `graph` is the answer.

    Raises
    ------
    UnsupportedError
        When the attention of the model is not one that can be read rightly: on entering for encoder-decoder models and
        for flash or flex attention, while the model runs for position biases and scores of another form, on leaving
        when the model ran without calling its attention function.

    Examples
    --------
    >>> import torch, transformers
    >>> from attngraph.transformers import capture
    >>> config = transformers.LlamaConfig(vocab_size=50, hidden_size=32, intermediate_size=32, num_hidden_layers=2,
    ...                                   num_attention_heads=4, num_key_value_heads=2)
    >>> model = transformers.LlamaForCausalLM(config)
    >>> with capture(model, threshold=0.05, layers=[0, 1]) as cap:
    ...     answer = model(torch.tensor([[5, 3, 7, 1]]))
    >>> len(cap.graph.slices), cap.graph.slices[0].key_count
    (8, 4)
    """
    how = {
        "threshold": threshold,
        "heads": heads,
        "top_k": top_k,
        "mass": mass,
        "threads": threads,
        "max_edges": max_edges,
        "nonfinite": nonfinite,
    }
    return Capture(model, layers, tokens, how)


class _Sequence:
    """What one run over one input gave: a first pass, and the passes that went on from it with a cache."""

    def __init__(self):
        self.pieces = []  # (Graph, Place), in the order of the calls
        self.sink = None  # open: the layers of a first pass share it, so that their edges are stored once
        self.broken = False

    def close(self):
        if self.sink is not None:
            self.pieces.append((Graph(self.sink.take_result()), Place(0, 0)))
            self.sink = None


class Capture:
    """What `capture` gives: a context manager that collects edges while the model runs.

    A pass that goes on where the last one ended (a chunk of a prompt, a decoded token) is added to the graph of that
    one; any other begins a new graph.
    """

    tokens: Sequence[str | bytes] | None

    def __init__(self, model: Any, layers: Any, tokens: Any, how: dict[str, Any]) -> None:
        transformers = optional("transformers", "capture")
        if not isinstance(model, transformers.PreTrainedModel):
            raise ArgumentError(f"model is a {type(model).__name__}; it must be a transformers.PreTrainedModel")
        if layers is not None:
            layers = {int(n) for n in ([layers] if hasattr(layers, "__index__") else layers)}
            if not layers:
                raise ArgumentError("layers is empty; leave it out for all layers")
        self.tokens = tokens
        self._model = model
        self._chosen = layers
        self._how = how
        self._call_options(0, {}, None, False)  # wrong values are told here, not half way through the model
        self._context = _native.Context("cpu")
        self._names = {}  # attention module: its name in the model
        self._of_layer = {}  # layer: the module that has it
        self._sequences = []
        self._ends = {}  # layer: (number of its sequence, batch size, position after its last query)
        self._masks = {}  # (queries, keys): Place, of the pass that is running
        self._called = set()  # modules that this pass has called
        self._passes = 0
        self._depth = 0  # models within models
        self._undo = []

    def __repr__(self) -> str:
        return f"<attngraph.transformers.Capture: {len(self._sequences)} sequences, {len(self._of_layer)} layers>"

    # ------------------------------------------------------------------------------------------------------------
    # answers

    @property
    def graphs(self) -> list[Graph]:
        """One `Graph` for every sequence that the model ran over, in order."""
        return [self._graph(sequence) for sequence in self._sequences]

    @property
    def graph(self) -> Graph:
        """The `Graph`, when the model ran over one sequence (or one batch of them)."""
        if not self._sequences:
            raise NotFoundError("nothing is captured; run the model inside the with block")
        if len(self._sequences) > 1:
            raise ArgumentError(
                f"{len(self._sequences)} sequences are captured, and each has a graph of its own; take one of .graphs"
            )
        return self._graph(self._sequences[0])

    def _graph(self, sequence):
        if sequence.broken:
            raise Error("a call failed while this sequence was captured; run the model again in a new capture")
        sequence.close()
        # Kept joined: its slices know their positions now.
        sequence.pieces = [(stitched(sequence.pieces), Place(0, 0))]
        graph = sequence.pieces[0][0]
        if self.tokens is None:
            return graph
        # A token that was generated last has not been read by the model: it has a label, but no position.
        keys = max(s.key_count for s in graph.slices)
        return concat([graph], tokens=list(self.tokens)[:keys])

    # ------------------------------------------------------------------------------------------------------------
    # coming and going

    def __enter__(self) -> Capture:
        if self._undo:
            raise ArgumentError("this capture is running already")
        attention = optional("transformers.modeling_utils", "capture", "transformers>=5")
        masking = optional("transformers.masking_utils", "capture", "transformers>=5")
        if "q_offset" not in inspect.signature(masking.sdpa_mask).parameters:
            raise UnsupportedError("this transformers does not tell masks where the queries stand; install a newer one")
        self._names = {module: name for name, module in self._model.named_modules()}
        configs = self._configs()
        registered = {}
        try:
            for config in configs:
                own = config._attn_implementation
                if own not in registered:
                    registered[own] = f"attngraph_{next(_numbers)}"
                    self._register(own, registered[own], attention, masking)
            for config in configs:
                # The private attribute, as transformers itself sets it: the public one also changes every part's.
                self._undo.append(_setter(config, config._attn_implementation))
                config._attn_implementation_internal = registered[config._attn_implementation]
            for module in self._model.modules():
                if isinstance(module, attention.PreTrainedModel):
                    self._undo.append(module.register_forward_pre_hook(self._begin_pass).remove)
                    self._undo.append(module.register_forward_hook(self._end_pass, always_call=True).remove)
        except BaseException:
            self._restore()
            raise
        return self

    def __exit__(self, error_type: Any, error: Any, traceback: Any) -> None:
        self._restore()
        if error_type is not None or not self._passes:
            return
        if not self._of_layer:
            raise UnsupportedError(
                f"{type(self._model).__name__} ran without calling the attention interface of transformers: its "
                "attention is written into the model, and cannot be captured"
            )
        missing = sorted((self._chosen or set()) - set(self._of_layer))
        if missing:
            raise NotFoundError(f"layers {missing} did not run; the layers that did are {sorted(self._of_layer)}")

    def _restore(self):
        while self._undo:
            self._undo.pop()()

    def _configs(self):
        """The configurations that modules of the model choose their attention by, each once."""
        found = {}
        for module in self._model.modules():
            config = getattr(module, "config", None)
            if getattr(config, "_attn_implementation", None) is not None:
                found[id(config)] = config
        for config in found.values():
            if getattr(config, "is_encoder_decoder", False):
                raise UnsupportedError(
                    f"{type(self._model).__name__} is an encoder-decoder model; its graphs cannot be captured"
                )
            own = config._attn_implementation
            if own.startswith("attngraph_"):
                raise ArgumentError("the model is being captured already; leave that block first")
            if own not in ("eager", "sdpa"):
                raise UnsupportedError(
                    f"the attention of the model is {own!r}; capture reads 'eager' and 'sdpa': "
                    'model.set_attn_implementation("sdpa")'
                )
            if own == "eager" and getattr(config, "reorder_and_upcast_attn", False):
                raise UnsupportedError("reorder_and_upcast_attn is only done under the name 'eager'; use 'sdpa'")
        return list(found.values())

    def _register(self, own, name, attention, masking):
        """Make `name` an attention that does what `own` does and lets this capture see it, in both registries: without
        a mask function transformers would leave the mask out, and the model would see the future."""
        make_mask = masking.ALL_MASK_ATTENTION_FUNCTIONS[own]

        def mask(*args, **kwargs):
            made = make_mask(*args, **kwargs)
            self._saw_mask(*args, **kwargs)
            return made

        def attend(module, query, key, value, attention_mask, **kwargs):
            answer = _own_attention(module, own, attention)(module, query, key, value, attention_mask, **kwargs)
            if module in self._names:  # another model may share the configuration
                self._saw_attention(module, own, query, key, attention_mask, answer[1], kwargs)
            return answer

        attention.AttentionInterface.register(name, attend)
        self._undo.append(lambda: attention.AttentionInterface._global_mapping.pop(name, None))
        masking.AttentionMaskInterface.register(name, mask)
        self._undo.append(lambda: masking.AttentionMaskInterface._global_mapping.pop(name, None))

    # ------------------------------------------------------------------------------------------------------------
    # while the model runs

    def _begin_pass(self, module, args):
        self._passes += 1
        self._depth += 1

    def _end_pass(self, module, args, output):
        self._depth -= 1
        if self._depth == 0:  # not on beginning: generate makes the masks of a static cache before the pass
            self._masks.clear()
            self._called.clear()

    def _saw_mask(self, batch_size=None, q_length=None, kv_length=None, q_offset=0, kv_offset=0, *_, **__):
        # A static cache counts in a tensor that changes in place: read it now.
        if q_length is not None and kv_length is not None:
            self._masks[int(q_length), int(kv_length)] = Place(int(q_offset), int(kv_offset))

    def _saw_attention(self, module, own, query, key, mask, weights, kwargs):
        layer = self._layer(module)
        if module in self._called:
            raise UnsupportedError(
                f"{self._names[module]} was called twice in one pass; layers that share weights cannot be told apart"
            )
        self._called.add(module)
        if self._chosen is not None and layer not in self._chosen:
            return
        for name in ("position_bias", "cache"):
            if kwargs.get(name) is not None:
                raise UnsupportedError(f"{self._names[module]} attends with {name}, which edges would not show")

        queries, keys = query.shape[2], key.shape[2]
        place = self._masks.get((queries, keys), Place(keys - queries, 0))
        causal = False
        if own == "sdpa" and mask is None and queries > 1:  # what sdpa means by no mask; eager means no mask
            causal = kwargs.get("is_causal")
            causal = bool(getattr(module, "is_causal", True) if causal is None else causal)
        # A static cache has room for keys that are still to come.
        keys = min(keys, queries if causal else place.query_begin + queries - place.key_begin)
        key = key[:, :, :keys]
        if mask is not None:
            mask = mask[..., :keys]
        if weights is not None and layer not in self._ends and not (module.training and kwargs.get("dropout")):
            _check_formula(self._names[module], query, key, mask, weights[..., :keys], kwargs)
        self._extract(layer, place, query, key, self._call_options(layer, kwargs, mask, causal))

    def _layer(self, module):
        """The number of a module's layer: its own, or the last number in its name (encoders do not count)."""
        layer = getattr(module, "layer_idx", None)
        if not isinstance(layer, int):
            numbers = re.findall(r"(?:^|\.)(\d+)(?=\.|$)", self._names[module])
            layer = int(numbers[-1]) if numbers else 0
        first = self._of_layer.setdefault(layer, module)
        if first is not module:
            raise UnsupportedError(
                f"{self._names[first]} and {self._names[module]} are both layer {layer}; capture one part of the model"
            )
        return layer

    def _call_options(self, layer, kwargs, mask, causal):
        options = _options(
            causal=causal, query_offset=0 if causal else None, key_lengths=None, query_range=None, backend=None,
            stats=(), layer=layer, window=None, **self._how,
        )  # fmt: skip
        _score_options(
            options, scale=kwargs.get("scaling"), softcap=kwargs.get("softcap"), mask=_on_host(mask),
            sinks=_on_host(kwargs.get("s_aux")), lse=None, lse_base="e", allow_dense=False, decision="fast",
        )  # fmt: skip
        return options

    def _extract(self, layer, place, query, key, options):
        sequence = self._sequence(layer, place.query_begin, *query.shape[0:3:2])
        views = tensor(_on_host(query), "query"), tensor(_on_host(key), "key")
        first = place == (0, 0)
        if first and sequence.sink is None:
            sequence.sink = _native.Sink.collect()
        sink = sequence.sink if first else _native.Sink.collect()
        try:
            self._context.extract(*views, options, sink)
        except BaseException:
            sequence.broken = True
            raise
        if not first:
            sequence.close()
            sequence.pieces.append((Graph(sink.take_result()), place))

    def _sequence(self, layer, begin, batch, queries):
        number, *last = self._ends.get(layer, (0, batch, begin))
        if last != [batch, begin]:
            number += 1
        self._ends[layer] = number, batch, begin + queries
        if number == len(self._sequences):
            self._sequences.append(_Sequence())
        return self._sequences[number]


def _own_attention(module, own, attention):
    """The function that a module's attention would have been under its own name."""
    eager = None
    for owner in type(module).__mro__:
        code = sys.modules.get(owner.__module__)
        eager = getattr(code, "eager_attention_forward", None)
        if eager is not None or hasattr(code, "ALL_ATTENTION_FUNCTIONS"):
            break
    # A modeling file may have a registry of its own, to change a function for its models.
    function = getattr(code, "ALL_ATTENTION_FUNCTIONS", attention.ALL_ATTENTION_FUNCTIONS).get(own, eager)
    if function is None:
        raise UnsupportedError(f"{type(module).__name__} has no eager attention to be found; use sdpa")
    return function


def _setter(config, value):
    def restore():
        config._attn_implementation_internal = value

    return restore


def _on_host(array):
    """Where the library reads it. Queries and keys are small beside the scores."""
    return None if array is None else array.detach().cpu()


def _check_formula(name, query, key, mask, weights, kwargs):
    """Hold two rows of softmax(q k) to the weights that the model's own eager attention gave: an attention with scores
    of another form (a bias from the distance, a norm) must fail, not give wrong edges."""
    import torch

    rows = sorted({query.shape[2] // 2, query.shape[2] - 1})
    q, k = query[:, :, rows].double(), key.double()
    k = k.repeat_interleave(q.shape[1] // k.shape[1], dim=1)
    scale = kwargs.get("scaling")
    scores = q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if kwargs.get("softcap") is not None:
        scores = kwargs["softcap"] * torch.tanh(scores / kwargs["softcap"])
    seen = torch.ones_like(scores, dtype=torch.bool)
    if mask is not None:
        rows_of_mask = mask[:, :, rows] if mask.shape[2] > 1 else mask
        seen = (rows_of_mask > torch.finfo(mask.dtype).min).expand_as(scores)
        scores = (scores + rows_of_mask).masked_fill(~seen, -torch.inf)
    if kwargs.get("s_aux") is not None:
        sinks = kwargs["s_aux"].double().reshape(1, -1, 1, 1).expand(*scores.shape[:3], 1)
        scores = torch.cat([scores, sinks], dim=-1)
    expected = torch.softmax(scores, dim=-1)[..., : key.shape[2]]
    difference = (expected - weights[:, :, rows].double())[seen.any(-1)].abs()
    # Scores of about 10 rounded to the model's type move a weight by about ten times its precision.
    if difference.numel() and not difference.max() <= max(1e-4, 10 * torch.finfo(query.dtype).eps):
        raise UnsupportedError(
            f"{name} computes other weights than softmax(scale * q k + mask): they differ by {difference.max():.2g}"
        )
