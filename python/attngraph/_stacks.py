# SPDX-License-Identifier: Apache-2.0
"""Which attention a module of a model is: of which stack of layers, which layer, of itself or of another sequence."""

from __future__ import annotations

import inspect
from typing import NamedTuple

# What modules that can attend to another sequence call it. Given: they do; None: they attend to themselves.
_OTHER_SEQUENCE = ("key_value_states", "encoder_hidden_states", "cross_attention_states")


class Place(NamedTuple):
    stack: str  # name of the list of layers in the model
    layer: int
    kind: str  # "encoder", "decoder", "cross"


class Modules:
    """The modules of one model, by name."""

    def __init__(self, model):
        self._names = {}
        for name, module in model.named_modules():
            self._names[module] = name.replace("_orig_mod.", "")
        self._by_name = {name: module for module, name in self._names.items()}
        self._cross = {}  # modules: whether they are called with another sequence, or were
        self._places = {}
        self._generating = [self._names[part] for part in map(_decoder_of, model.modules()) if part in self._names]

    def __contains__(self, module):
        return module in self._names

    def path(self, module):
        return self._names[module]

    def name(self, module):
        """For messages."""
        return self._names[module] or type(module).__name__

    def watch(self):
        """Note on every call whether a module attends to another sequence; gives what undoes it."""
        undo = []
        for module in self._names:
            parameters = list(inspect.signature(type(module).forward).parameters)[1:]
            named = [name for name in _OTHER_SEQUENCE if name in parameters]
            if named:
                hook = _noting(self._cross, named, {name: parameters.index(name) for name in named})
                undo.append(module.register_forward_pre_hook(hook, with_kwargs=True).remove)
        return undo

    def place(self, module):
        cross = self._cross.get(module, False) or "CrossAttention" in type(module).__name__
        known = self._places.get((module, cross))
        if known is None:
            known = self._places[module, cross] = self._find(module, cross)
        return known

    def _find(self, module, cross):
        """Layers are an element of a list whose elements are of one type, the innermost such list in the module's name
        (T5's blocks are lists, too: of self attention, cross attention and what follows)."""
        name = self._names[module]
        parts = name.split(".")
        lists = []
        for i, part in enumerate(parts):
            holder = self._by_name.get(".".join(parts[:i]))
            if part.isdigit() and holder is not None:
                lists.append((i, len({type(child) for child in holder.children()}) == 1))
        chosen = [i for i, alike in lists if alike][-1:] or [i for i, _ in lists][:1]
        layer = getattr(module, "layer_idx", None)
        if isinstance(layer, bool) or not isinstance(layer, int):
            layer = int(parts[chosen[0]]) if chosen else 0
        stack = ".".join(parts[: chosen[0]]) if chosen else ""
        return Place(stack, layer, "cross" if cross else self._kind(name, module))

    def _kind(self, name, module):
        causal = getattr(module, "is_causal", None)
        if "decoder" in name or causal is True:
            return "decoder"
        if "encoder" in name:
            return "encoder"
        # What a model generates with decodes, though it may see all of a prompt at once (PaliGemma).
        if any((name + ".").startswith(part + "." if part else "") for part in self._generating):
            return "decoder"
        return "encoder" if causal is False or self._generating else "decoder"


def _decoder_of(module):
    """The part that a model generates tokens with, where it is one that does."""
    if getattr(module, "generation_config", None) is None:
        return None
    try:
        return module.get_decoder()
    except Exception:  # models are a wide family, and this is a question that they may not know
        return None


def _noting(cross, named, positions):
    def hook(module, args, kwargs):
        # Later steps may find the other sequence in the cache alone (Mllama).
        cross[module] = cross.get(module, False) or any(
            (kwargs.get(name) if name in kwargs else args[positions[name]] if positions[name] < len(args) else None)
            is not None
            for name in named
        )

    return hook
