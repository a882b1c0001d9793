# SPDX-License-Identifier: Apache-2.0
"""Attention graphs out of live Hugging Face models: listen while a model runs, keep the edges, store no matrix.

The model goes on computing with its own attention function, so its outputs stay what they were; queries, keys, mask,
scale, softcap and sinks are read on their way in.
"""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from . import _captured, _live, _own_attention, _values
from ._beside import Beside
from ._inputs import tensor
from ._kept import KeptLayer
from ._labels import Labels
from ._making import with_words
from ._optional import optional
from ._options import Options, ids_at
from ._stacks import Modules
from ._stitch import Place
from ._streams import Print, Running, Streams, print_of
from .errors import ArgumentError, NotFoundError, UnsupportedError
from .graph import Graph

if TYPE_CHECKING:
    import transformers

__all__ = ["Capture", "capture"]

_numbers = itertools.count(1)


def capture(
    model: Any,
    threshold: float = 0.05,
    *,
    layers: int | Sequence[int] | None = None,
    heads: int | Sequence[int] | None = None,
    tokens: Labels | dict[str, Labels] | None = None,
    tokenizer: Any = None,
    top_k: int | None = None,
    mass: float | None = None,
    stats: str | Sequence[str] = (),
    token_ids: Any = None,
    word_ids: Any = None,
    threads: int | None = None,
    max_edges: int | None = None,
    nonfinite: Literal["error", "skip"] = "error",
    keep_keys: bool = True,
) -> Capture:
    """Make attention graphs of what a transformers model does inside a ``with`` block.

    Parameters
    ----------
    model : transformers.PreTrainedModel, or a torch.nn.Module that holds some
        With eager or sdpa attention: decoders, encoders, encoder-decoder models and models with several backbones, also
        inside wrappers (PEFT, ``torch.compile``, DataParallel on one device). What is compiled runs eagerly meanwhile.
    threshold : float
        Keep ``weight >= threshold``, as `attngraph.extract` does.
    layers : sequence or mask of layers, optional
        Layers to record; all unless given.
    heads : sequence or mask of heads, optional
        Query heads to record; all unless given.
    tokens : sequence of str or bytes, or one sequence for each element of the batch, optional
        Labels of the positions; may also be set afterwards, as ``cap.tokens``. For an encoder-decoder model
        ``{"encoder": ..., "decoder": ...}``.
    tokenizer : optional
        With it the labels are the texts of the tokens that the model was given (see `attngraph.token_texts`).
    stats : optional
        As in `attngraph.extract`: "heads" is what `Graph.heads` answers. Passes of one sequence add up; sequences that
        were followed through reorderings, or of which guesses were dropped, have no sums.
    token_ids, word_ids : array of int [N] or [B, N], optional
        The tokens and words that the model will have read at the end, for the statistics of tokens. A pass that reads
        further than they go fails.
    top_k, mass, threads, max_edges, nonfinite : optional
        As in `attngraph.extract`; `max_edges` holds for every layer and pass apart.
    keep_keys : bool
        Once a model on the CPU decodes, keep the keys of its layers packed (`attngraph.Session`, whose memory it takes for
        every layer), so that a step packs its own keys alone. The graph is the same, bit for bit, without; of keys that
        ``nonfinite="skip"`` leaves out, ``report.skipped_nonfinite`` counts each once, not in every pass.

    Returns
    -------
    Capture
        A context manager; its `graph` is the answer.

    Raises
    ------
    UnsupportedError
        When the attention of the model is not one that can be read rightly: on entering for flash or flex attention,
        while the model runs for scores of another form, on leaving when the model ran without calling its attention
        function.

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
    how = Options(
        threshold=threshold, heads=_values.kept(heads), top_k=top_k, mass=mass, stats=_values.kept(stats), token_ids=token_ids,
        word_ids=word_ids, threads=threads, max_edges=max_edges, nonfinite=nonfinite,
    )  # fmt: skip
    return Capture(model, layers, tokens, how, tokenizer, keep_keys)


class Capture:
    """What `capture` gives: a context manager that collects edges while the model runs.

    A pass that reads on where another one ended, from the keys that this one left in a cache, is added to its graph; any
    other begins a new graph. Of a batch whose rows are exchanged (beam search) every row is followed.
    """

    tokens: Labels | dict[str, Labels] | None

    def __init__(
        self, model: Any, layers: Any, tokens: Any, how: Options, tokenizer: Any = None, keep_keys: bool = True
    ) -> None:
        transformers = optional("transformers", "capture")
        torch = optional("torch", "capture")
        if not isinstance(model, torch.nn.Module):
            own = getattr(model, "model", None)
            hint = "; a pipeline has one as .model" if isinstance(own, torch.nn.Module) else ""
            raise ArgumentError(f"model is a {type(model).__name__}; it must be a transformers.PreTrainedModel{hint}")
        if not any(isinstance(module, transformers.PreTrainedModel) for module in model.modules()):
            raise ArgumentError(
                f"model is a {type(model).__name__} and holds no transformers.PreTrainedModel; capture reads these"
            )
        if len(getattr(model, "device_ids", None) or ()) > 1:
            raise UnsupportedError(
                f"{type(model).__name__} runs copies of the model on {len(model.device_ids)} devices; capture the model "
                "itself: capture(model.module)"
            )
        chosen = _values.chosen(layers, "layers")
        self.tokens = _values.kept(tokens)
        self._tokenizer = tokenizer
        self._model = model
        self._chosen = None if chosen is None else set(chosen)
        self._how = how
        self._call_options(0, {}, None, False, None, Place(0, 0), None)  # wrong values are told here, not in the model
        self._devices = _live.Devices()
        self._beside = Beside()
        self._cache = None  # that was given to the pass that is running: it may be changed in place
        self._modules = None
        self._of_layer = {}  # place in the model: the module that has it
        self._streams = Streams()
        self._kept = {} if _values.flag(keep_keys, "keep_keys") else None  # place in the model: KeptLayer
        self._running = {}  # stack: Running, of the pass that is running
        self._masks = {}  # (queries, keys): Place, of the pass that is running
        self._ids = {}  # name of a model within the model: the token ids that it was given in this pass
        self._called = set()  # modules that this pass has called
        self._held = []  # (pass, cache, layer): what the cache holds of it is known when the next one begins
        self._failed = False
        self._passes = 0
        self._depth = 0  # models within models
        self._thread = None  # that runs the model
        self._undo = []
        self._named = []  # (configuration, name of the attention that it was given)
        self._changed = False  # somebody else gave it another

    def __repr__(self) -> str:
        layers = {where.layer for where in self._of_layer}
        return f"<attngraph.transformers.Capture: {len(self._streams.all)} sequences, {len(layers)} layers>"

    # ------------------------------------------------------------------------------------------------------------
    # answers

    @property
    def graphs(self) -> list[Graph]:
        """One `Graph` for every sequence (or batch of them) that the model ran over, in order; of a decoder that attends
        to an encoder two, its own attention and the cross attention. ``metadata["attention"]`` says which ("encoder",
        "decoder", "cross"), ``metadata["stack"]`` by which part of the model."""
        return [self._graph(stream, kind) for stream, kind in self._found()]

    @property
    def graph(self) -> Graph:
        """The `Graph`, when there is one."""
        return self._only(self._found(), "graphs")

    @property
    def encoder(self) -> Graph:
        """The `Graph` of the encoder's attention to itself, when there is one."""
        return self._only([found for found in self._found() if found[1] == "encoder"], "graphs of an encoder")

    @property
    def decoder(self) -> Graph:
        """The `Graph` of the decoder's attention to itself, when there is one."""
        return self._only([found for found in self._found() if found[1] == "decoder"], "graphs of a decoder")

    @property
    def cross(self) -> Graph:
        """The `Graph` of the decoder's attention to what the encoder read, when there is one: its queries and keys are
        different sequences."""
        return self._only([found for found in self._found() if found[1] == "cross"], "graphs of cross attention")

    def follow(self, sequences: Any, attention: Literal["encoder", "decoder", "cross"] = "decoder") -> Graph:
        """The `Graph` of the sequences that ``generate`` returned, one for each element of the batch.

        After beam search ``cap.graph`` holds the beams that were alive at the end; this finds the ones that became the
        answer, by their token ids, also those that ended sooner.

        Parameters
        ----------
        sequences : array of int [B, N] or [N]
            Token ids. The last of each was never read by the model and may be anything.

        Raises
        ------
        NotFoundError
            When a sequence is none that the model read.
        """
        _values.one_of(attention, "attention", "encoder", "decoder", "cross")
        rows = _values.listed(getattr(sequences, "tolist", lambda: sequences)(), "sequences", "token ids")
        rows = rows if rows and hasattr(rows[0], "__iter__") else [rows]
        rows = [_values.integers(row, f"sequences[{n}]") for n, row in enumerate(rows)]
        streams = [stream for stream, kind in self._found() if kind == attention]
        return _captured.followed(streams, rows, attention)

    def _found(self):
        self._settle()
        if self._failed:
            raise _captured.failure()
        return [(stream, kind) for stream in self._streams.all for kind in stream.kinds()]

    def _only(self, found, what):
        if not found:
            there = ", ".join(sorted({kind for stream in self._streams.all for kind in stream.kinds()}))
            nothing = "nothing is captured; run the model inside the with block"
            raise NotFoundError(f"there are no {what}; captured are those of: {there}" if there else nothing)
        if len(found) > 1:
            kinds = sorted({kind for _, kind in found})
            by_kind = f", or {', '.join(f'.{kind}' for kind in kinds)}" if len(kinds) > 1 else ""
            raise ArgumentError(
                f"{len(found)} {what} are captured ({', '.join(kinds)}), since the model ran over several sequences or has "
                f"several attentions; take one of .graphs{by_kind}"
            )
        return self._graph(*found[0])

    def _graph(self, stream, kind):
        graph = _captured.labelled(stream, kind, self._streams.all, self.tokens, self._tokenizer)
        return with_words(graph, facts={"note": self._devices.note}) if self._devices.note else graph

    # ------------------------------------------------------------------------------------------------------------
    # coming and going

    def __enter__(self) -> Capture:
        if self._undo:
            raise ArgumentError("this capture is running already")
        attention = optional("transformers.modeling_utils", "capture", "transformers>=5")
        masking = optional("transformers.masking_utils", "capture", "transformers>=5")
        if "q_offset" not in inspect.signature(masking.sdpa_mask).parameters:
            raise UnsupportedError("this transformers does not tell masks where the queries stand; install a newer one")
        self._modules = Modules(self._model)
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
                name = registered[config._attn_implementation]
                config._attn_implementation_internal = name
                self._named.append((config, name))
            for module in self._model.modules():
                if isinstance(module, attention.PreTrainedModel):
                    self._undo.append(module.register_forward_pre_hook(self._begin_pass, with_kwargs=True).remove)
                    self._undo.append(
                        module.register_forward_hook(self._end_pass, always_call=True, with_kwargs=True).remove
                    )
            self._undo += self._modules.watch()
            self._undo += _own_attention.watch(self._model, self._saw_own_attention)
            self._undo.append(_live.without_compiler())
        except BaseException:
            self._restore()
            raise
        return self

    def __exit__(self, error_type: Any, error: Any, traceback: Any) -> None:
        self._restore()
        self._settle()
        if error_type is not None or not self._passes:
            return
        if not self._of_layer and self._changed:
            raise UnsupportedError(
                "the attention implementation of the model was changed inside the with block; change it before, or after"
            )
        if not self._of_layer:
            raise UnsupportedError(
                f"{type(self._model).__name__} ran without calling the attention interface of transformers: its "
                "attention is written into the model, and cannot be captured"
            )
        there = {where.layer for where in self._of_layer}
        missing = sorted((self._chosen or set()) - there)
        if missing:
            raise NotFoundError(f"layers {missing} did not run; the layers that did are {sorted(there)}")

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise UnsupportedError(
            "a capture cannot be copied or pickled, nor the model that it listens to; copy that outside of the with block"
        )

    def _restore(self):
        self._changed = any(config._attn_implementation != name for config, name in self._named)
        self._named = []
        if self._kept:
            self._kept.clear()
        while self._undo:
            self._undo.pop()()
        self._beside.end()

    def _configs(self):
        """The configurations that modules of the model choose their attention by, each once."""
        found = {}
        for module in self._model.modules():
            config = getattr(module, "config", None)
            if getattr(config, "_attn_implementation", None) is not None:
                found[id(config)] = config
        for config in found.values():
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
            if "allow_is_bidirectional_skip" not in kwargs:  # encoders, and masks of what they read: no cache, no offset
                self._saw_mask(*args, **kwargs)
            return made

        def attend(module, query, key, value, attention_mask, **kwargs):
            answer = _live.own_attention(module, own, attention)(module, query, key, value, attention_mask, **kwargs)
            if self._listens_to(module):
                self._saw_attention(module, own, query, key, attention_mask, answer[1], kwargs)
            return answer

        attention.AttentionInterface.register(name, attend)
        self._undo.append(lambda: attention.AttentionInterface._global_mapping.pop(name, None))
        masking.AttentionMaskInterface.register(name, mask)
        self._undo.append(lambda: masking.AttentionMaskInterface._global_mapping.pop(name, None))

    # ------------------------------------------------------------------------------------------------------------
    # while the model runs

    def _begin_pass(self, module, args, kwargs):
        if self._depth == 0:
            self._settle()
            self._running, self._called, self._ids = {}, set(), {}
            self._cache = _live.cache_of(kwargs)
            self._thread = threading.get_ident()
        elif self._thread != threading.get_ident():
            raise UnsupportedError("two threads run the model at once; a capture can follow one at a time")
        self._passes += 1
        self._depth += 1
        ids = _live.token_ids(module, args, kwargs)
        if ids is not None:
            self._ids[self._modules.path(module)] = ids

    def _end_pass(self, module, args, kwargs, output):
        if self._thread != threading.get_ident():
            return
        self._depth -= 1
        if self._depth == 0:  # masks stay until now: generate makes those of a static cache before the pass
            self._masks.clear()
            self._cache = None
            if output is None:  # it was left by an exception
                self._failed = True
                self._beside.drop()
            else:
                try:
                    self._beside.wait()
                except BaseException:
                    self._failed = True
                    raise
                cache = next((c for c in map(_live.cache_of, (kwargs, output)) if c is not None), None)
                self._finish_pass(cache)

    def _finish_pass(self, cache):
        for stack, running in self._running.items():
            own = cache if running.decodes else None  # an encoder in the same pass has nothing to do with it
            step = running.finished(own)
            if step is None:
                continue
            step.ids = _live.ids_of(self._ids, stack, step.batch, step.queries)
            self._streams.add(stack, step)
            if own is not None:
                self._held.append((step, own, running.self_layer))
        self._running = {}

    def _settle(self):
        """Look what the caches hold now of the last pass: words that a draft guessed wrong are gone from them."""
        for step, cache, layer in self._held:
            length = _live.length_of(cache, layer)
            if length is not None and step.begin < length < step.kept:
                step.kept = length
        self._held = []

    def _saw_mask(self, batch_size=None, q_length=None, kv_length=None, q_offset=0, kv_offset=0, *_, **__):
        # A static cache counts in a tensor that changes in place: read it now.
        if q_length is not None and kv_length is not None:
            self._masks[int(q_length), int(kv_length)] = Place(int(q_offset), int(kv_offset))

    def _place_without_mask(self, where, queries, keys):
        """Where queries and keys stand when transformers made no mask, as with a 4-D mask of the caller's: the cache, which
        holds the keys of this layer by now, counts all that it ever got. A static one has more room than keys."""
        end = _live.length_of(self._cache, where.layer) if self._cache is not None and where.kind == "decoder" else None
        if end is None or end < queries:
            return Place(keys - queries, 0)
        return Place(end - queries, max(end - keys, 0))

    def _listens_to(self, module):
        """Another model may share the configuration; what is computed again for gradients is no pass."""
        return module in self._modules and self._depth > 0 and self._thread == threading.get_ident()

    def _saw_own_attention(self, module, seen):
        if self._listens_to(module):
            slopes = _own_attention.slopes_of(seen.bias, seen.mask)
            biased = {"position_bias": seen.bias} if slopes is None else {"alibi": slopes}
            kwargs = {"scaling": seen.scaling, **biased}
            self._saw_attention(module, "eager", seen.query, seen.key, seen.mask, seen.weights, kwargs)

    def _saw_attention(self, module, own, query, key, mask, weights, kwargs):
        where, name = self._modules.place(module), self._modules.name(module)
        if module in self._called:
            raise UnsupportedError(
                f"{name} was called twice in one pass: layers that share weights, or several inputs, cannot be told apart; "
                "capture another part of the model (model.language_model, say), or give it one input at a time"
            )
        self._called.add(module)
        first = self._of_layer.setdefault(where, module)
        if first is not module:
            raise UnsupportedError(
                f"{self._modules.name(first)} and {name} are both layer {where.layer} of {where.stack or 'the model'}; "
                "capture one part of the model"
            )
        if kwargs.get("cache") is not None:
            raise UnsupportedError(f"{name} attends with a paged cache, which cannot be read")

        queries, keys = query.shape[2], key.shape[2]
        running = self._running.setdefault(where.stack, Running())
        causal = False
        if own == "sdpa" and mask is None and queries > 1:  # what sdpa means by no mask; eager means no mask
            causal = kwargs.get("is_causal")
            causal = bool(getattr(module, "is_causal", True) if causal is None else causal)
        if where.kind == "cross":
            place = Place(running.begin or 0, 0)
        else:
            place = self._masks.get((queries, keys)) or self._place_without_mask(where, queries, keys)
            if place.query_begin < 0:
                raise UnsupportedError(
                    f"{name} attends from {queries} queries to {keys} keys, which it made out of the same positions: where "
                    "those stand cannot be told"
                )
            running.begin = place.query_begin if running.begin is None else running.begin
            # A static cache has room for keys that are still to come.
            keys = min(keys, queries if causal else place.query_begin + queries - place.key_begin)
            key = key[:, :, :keys]
        if self._chosen is not None and where.layer not in self._chosen:
            return
        added = _live.added_to_scores(mask, kwargs.get("position_bias"), keys)
        if weights is not None and self._is_new(where) and not (module.training and kwargs.get("dropout")):
            _live.check_formula(name, query, key, added, weights[..., :keys], kwargs)
        sink = running.sink(where, place, query.shape[0], queries)

        def extract(context, move, stream=None):
            heads = range(query.shape[1])
            options = self._call_options(where.layer, kwargs, move(added), causal, heads, place, key.shape[2], move, stream)
            if context is self._devices.host and self._keeps(where, place):
                kept = self._kept.setdefault(where, KeptLayer(context, self._how.nonfinite == "skip"))
                return kept.rows(move(query), move(key), options, sink)
            return context.extract(tensor(move(query), "query"), tensor(move(key), "key"), options, sink)

        made = None
        if query.device.type == "cuda":
            key = key.clone() if self._cache is not None else key
            self._beside.do(
                query.device,
                lambda stream: self._devices.run(query.device, lambda context, move: extract(context, move, stream)),
            )
        else:
            self._beside.wait()  # they share contexts and sinks
            made = self._devices.run(query.device, extract)
        running.prints[where.kind, where.layer] = made or Print(print_of(key), place.key_begin)

    def _keeps(self, where, place):
        """Whether a pass reads on in keys that grow: no first pass, and no window, whose keys move and stay few."""
        return self._kept is not None and where.kind == "decoder" and place.query_begin > 0 and place.key_begin == 0

    def _is_new(self, where):
        """Whether no pass of this layer is finished yet."""
        return not any(stream.stack == where.stack for stream in self._streams.all)

    def _call_options(self, layer, kwargs, mask, causal, among, place, keys, move=_live.on_host, stream=None):
        ids = {name: ids_at(getattr(self._how, name), place.key_begin, keys, name) for name in ("token_ids", "word_ids")}
        stream = None if move is _live.on_host else stream
        return dataclasses.replace(
            self._how, stream=stream, causal=causal, query_offset=0 if causal else None, layer=layer, scale=kwargs.get("scaling"),
            softcap=kwargs.get("softcap"), mask=mask, sinks=move(kwargs.get("s_aux")), alibi=_slopes_of_batch(kwargs.get("alibi")),
            **ids,
        ).native(among)  # fmt: skip


def _slopes_of_batch(slopes):
    """[Hq] where a model has the same for every sequence: of a batch of one, [1, Hq] is nobody's."""
    return slopes[0] if slopes is not None and (slopes == slopes[:1]).all() else slopes


def _setter(config, value):
    def restore():
        config._attn_implementation_internal = value

    return restore
