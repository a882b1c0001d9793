# SPDX-License-Identifier: Apache-2.0
"""Attention graphs out of GGUF models: llama.cpp reads a prompt, its evaluation callback shows every attention node.

Queries, the keys of the cache, mask, scale, softcap, slopes (ALiBi) and sinks are taken from the node itself, after rotary embedding and
whatever else the architecture does, so that no architecture needs to be known here.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import logging
import os
from collections.abc import Sequence
from typing import Any, Literal

from . import _native, _values
from ._attention_nodes import Listener
from ._ggml import Library
from ._labels import token_bytes
from ._optional import optional
from ._options import Options
from ._questions import words_of
from ._stitch import Place, stitched
from .errors import ArgumentError, Error, FormatError, NotFoundError, UnsupportedError
from .graph import Graph

__all__ = ["capture"]

_CACHE_TYPES = {"f32": 0, "f16": 1, "q8_0": 8, "bf16": 30}  # enum ggml_type
_FLASH = {None: -1, False: 0, True: 1}  # enum llama_flash_attn_type


def capture(
    gguf: Any,
    prompt: str | bytes | Sequence[int],
    threshold: float = 0.05,
    *,
    layers: int | Sequence[int] | None = None,
    heads: int | Sequence[int] | None = None,
    flash_attention: bool | None = None,
    cache_type: Literal["f16", "bf16", "f32", "q8_0"] = "f16",
    ubatch: int = 512,
    gpu_layers: int = 0,
    add_special: bool = True,
    parse_special: bool = False,
    verbose: bool = False,
    top_k: int | None = None,
    mass: float | None = None,
    stats: str | Sequence[str] = (),
    threads: int | None = None,
    max_edges: int | None = None,
    nonfinite: Literal["error", "skip"] = "error",
) -> Graph:
    """Make the attention graph of a prompt that llama.cpp reads. Needs the package llama-cpp-python.

    Parameters
    ----------
    gguf : path or llama_cpp.Llama
        A GGUF file, or a model that is loaded already: its weights are used, its context is left alone.
    prompt : str, bytes or sequence of int
        The text, or its token ids (with what a model generated, for instance).
    threshold : float
        Keep ``weight >= threshold``, as `attngraph.extract` does.
    layers, heads : sequence of int, optional
        Layers and query heads to record; all unless given. The others cost nothing.
    flash_attention : bool, optional
        Whether llama.cpp uses it; unless given, llama.cpp decides. The edges are the same within rounding.
    cache_type : {"f16", "bf16", "f32", "q8_0"}
        What keys are kept as. Queries are rounded to the same type, as llama.cpp does to multiply them.
    ubatch : int
        Tokens that are read at once. The graph does not depend on it beyond rounding. Models without a cache (BERT)
        read the whole prompt at once whatever it says.
    gpu_layers : int
        Layers on a GPU, where llama.cpp was built for one. Edges are found on the host.
    add_special, parse_special : bool
        Whether a text gets the model's begin-of-text token, and whether ``<|...|>`` in it are special tokens.
    verbose : bool
        Let llama.cpp talk on standard error.
    threads : int, optional
        Of llama.cpp and of the search for edges, which take turns; all allowed cores unless given.
    top_k, mass, stats, max_edges, nonfinite : optional
        As in `attngraph.extract`; token ids and words are the prompt's own. `max_edges` holds for every layer and ubatch apart.

    Returns
    -------
    Graph
        One slice per (layer, query head); the tokens are its labels.

    Raises
    ------
    UnsupportedError
        Attention that edges would not show rightly: relative position biases (T5), encoder-decoder models, several
        streams, cache types without a reader here; or a llama.cpp that attngraph does not know.
    NotFoundError, FormatError
        No such file; not a model.
    KeyboardInterrupt
        On Ctrl-C, at the next node of the model's graph.

    Examples
    --------
    >>> import os, attngraph as ag
    >>> path = os.environ.get("ATTNGRAPH_GGUF")
    >>> if path:
    ...     graph = ag.llama_cpp.capture(path, "In the beginning God created the heaven and the earth.", layers=[0])
    ...     assert len(graph.tokens) == graph.slices[0].key_count
    """
    selection = Options(
        threshold=threshold, heads=heads, top_k=top_k, mass=mass, stats=stats, threads=threads, max_edges=max_edges, nonfinite=nonfinite
    )  # fmt: skip
    selection.native()  # wrong values are told before a model is loaded
    layers = None if layers is None else set(_values.chosen(layers, "layers"))
    if not isinstance(cache_type, str) or cache_type not in _CACHE_TYPES:
        raise UnsupportedError(f"cache_type is {cache_type!r}; keys can be read from {', '.join(_CACHE_TYPES)}")
    if not isinstance(flash_attention, (bool, type(None))):
        raise ArgumentError(f"flash_attention is {flash_attention!r}; it is True, False or None")
    ubatch = _values.positive(ubatch, "ubatch")
    api = optional("llama_cpp.llama_cpp", "llama_cpp.capture", "llama-cpp-python")
    with contextlib.ExitStack() as stack:
        if not verbose:
            stack.enter_context(_quiet())
        model = _model(api, gguf, gpu_layers, stack)
        ids = _token_ids(api, model, prompt, add_special, parse_special)
        texts, name = _texts(api, model, ids), _name(gguf)
        # The cache has room beyond the prompt; llama.cpp rounds it up.
        selection = dataclasses.replace(selection, token_ids=ids, word_ids=None if texts is None else words_of(texts))
        listener = Listener(Library(api._lib), layers, selection)
        how = {"type_k": _CACHE_TYPES[cache_type], "type_v": 0 if cache_type == "f32" else 1}
        how["n_threads"] = how["n_threads_batch"] = threads or _cores()
        how |= {"flash_attn_type": _FLASH[bool(flash_attention) if flash_attention is not None else None]}
        pieces = _run(api, model, ids, min(ubatch, len(ids)), listener, how, stack)
        if len(pieces) > 1:
            return stitched(pieces, texts, {"model": name})
        return Graph(_labelled(pieces[0][0], texts, name))  # which keeps its report


# ----------------------------------------------------------------------------------------------------------------------
# llama.cpp


def _cores():
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        return os.cpu_count() or 1


@contextlib.contextmanager
def _quiet():
    logger = logging.getLogger("llama-cpp-python")  # which its package prints by
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)


def _model(api, gguf, gpu_layers, stack):
    model = getattr(gguf, "model", None)
    if model is None:
        try:
            path = os.fsdecode(os.fspath(gguf))
        except TypeError:
            raise ArgumentError(f"gguf is a {type(gguf).__name__}; it is a path or a llama_cpp.Llama") from None
        if not os.path.isfile(path):
            raise NotFoundError(f"there is no file {path}")
        with open(path, "rb") as file:
            if file.read(4) != b"GGUF":
                raise FormatError(f"{path} is not a GGUF file: it does not begin with GGUF")
        api.llama_backend_init()
        parameters = api.llama_model_default_params()
        parameters.n_gpu_layers = gpu_layers
        model = api.llama_model_load_from_file(os.fsencode(path), parameters)
        if not model:
            raise FormatError(f"llama.cpp could not load {path}; verbose=True shows what it says")
        stack.callback(api.llama_model_free, model)
    if api.llama_model_has_encoder(model):
        raise UnsupportedError("the model has an encoder; its graphs cannot be captured")
    return model


def _name(gguf):
    path = getattr(gguf, "model_path", gguf)
    return os.path.basename(os.fsdecode(os.fspath(path)))


def _token_ids(api, model, prompt, add_special, parse_special):
    vocabulary = api.llama_model_get_vocab(model)
    if isinstance(prompt, (str, bytes)):
        if api.llama_vocab_type(vocabulary) == api.LLAMA_VOCAB_TYPE_NONE:
            raise UnsupportedError("the model has no words; give the prompt as token ids")
        text = prompt.encode() if isinstance(prompt, str) else prompt
        room = len(text) + 8
        ids = (api.llama_token * room)()
        count = api.llama_tokenize(vocabulary, text, len(text), ids, room, add_special, parse_special)
        if count < 0:
            raise Error(f"llama.cpp could not cut the prompt into tokens: {-count} of them for {len(text)} bytes")
        ids = list(ids[:count])
    else:
        ids = _values.integers(prompt, "prompt")
        limit = api.llama_vocab_n_tokens(vocabulary)
        wrong = next((n for n in ids if not 0 <= n < limit), None)
        if wrong is not None:
            raise ArgumentError(f"prompt holds token {wrong}; the model has tokens 0 to {limit - 1}")
    if not ids:
        raise ArgumentError("prompt is empty; it must hold at least one token")
    return ids


def _texts(api, model, ids):
    """The text of every token; None for a model that has no words."""
    vocabulary, texts = api.llama_model_get_vocab(model), {}
    if api.llama_vocab_type(vocabulary) == api.LLAMA_VOCAB_TYPE_NONE:
        return None
    buffer = ctypes.create_string_buffer(1024)
    for n in set(ids):
        size = api.llama_token_to_piece(vocabulary, n, buffer, len(buffer), 0, True)
        texts[n] = buffer.raw[: max(size, 0)]
    return [texts[n] for n in ids]


def _run(api, model, ids, ubatch, listener, how, stack):
    """Let the model read the tokens; what the listener made of every ubatch."""
    parameters = api.llama_context_default_params()
    parameters.n_ctx = -(-len(ids) // 256) * 256
    parameters.n_batch = parameters.n_ubatch = ubatch
    # Cells of a full-size cache are positions, for layers with a sliding window too.
    parameters.swa_full = True
    for name, value in how.items():
        setattr(parameters, name, value)
    callback = api.ggml_backend_sched_eval_callback(listener.saw)
    parameters.cb_eval = callback
    context = api.llama_init_from_model(model, parameters)
    if not context:
        raise UnsupportedError("llama.cpp made no context for this model and these options; verbose=True shows why")
    stack.callback(api.llama_free, context)
    if ubatch < len(ids) and not api.llama_get_memory(context):  # nothing would join the parts: it sees both sides
        return _run(api, model, ids, len(ids), listener, how, stack)
    pieces = []
    for begin in range(0, len(ids), ubatch):
        part = ids[begin : begin + ubatch]
        listener.begin(begin, len(part))
        tokens = (api.llama_token * len(part))(*part)
        status = api.llama_decode(context, api.llama_batch_get_one(tokens, len(part)))
        listener.rethrow()
        if status != 0:
            raise Error(f"llama_decode failed with {status} at token {begin}; verbose=True shows what llama.cpp says")
        pieces.append((listener.end(), Place(begin, 0)))
    callback  # noqa: B018  alive until here: C holds only its address
    return pieces


def _labelled(graph, texts, name):
    """The result with labels and the model's name."""
    sink = _native.Sink.collect()
    if texts is not None:
        sink.set_tokens(token_bytes(texts))
    sink.set_metadata("model", name)
    graph._result.write(sink)
    return sink.take_result()
