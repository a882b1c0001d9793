# SPDX-License-Identifier: Apache-2.0
"""What is read off a model of transformers while it runs."""

from __future__ import annotations

import inspect
import sys

from . import _native
from .errors import CancelledError, Error, LimitError, NonfiniteError, RangeError, UnsupportedError


def own_attention(module, own, attention):
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


def on_host(array):
    """Where the CPU reads it. Queries and keys are small beside the scores."""
    return None if array is None else array.detach().cpu()


class Devices:
    """Where edges are found: on the device of the queries and keys, which are read in place there, or on the CPU."""

    def __init__(self, context=_native.Context):
        self._make = context
        self._contexts = {"cpu": context("cpu")}
        self._notes = {}  # device: why its tensors go to the host

    @property
    def host(self):
        return self._contexts["cpu"]

    @property
    def note(self):
        """Why tensors were copied to the host; "" when none were."""
        return "; ".join(self._notes.values())

    def run(self, device, extract):
        """Call extract(context, move), move being what brings a tensor to where the context reads it."""
        context = self._context(device)
        if context is not self._contexts["cpu"]:
            try:
                return extract(context, lambda array: None if array is None else array.detach().to(device))
            except (LimitError, NonfiniteError, RangeError, CancelledError):  # said of the data: the CPU says the same
                raise
            except Error as error:
                self._fall_back(device, error)
        return extract(self._contexts["cpu"], on_host)

    def _context(self, device):
        name = str(device)
        if name not in self._contexts:
            self._contexts[name] = self._contexts["cpu"]
            if device.type == "cuda":
                try:
                    self._contexts[name] = self._make(f"cuda:{device.index or 0}")
                except Error as error:
                    self._fall_back(device, error)
            elif device.type != "cpu":
                self._fall_back(device, f"edges are found on CUDA devices and on the host, not on {device.type!r}")
        return self._contexts[name]

    def _fall_back(self, device, why):
        self._contexts[str(device)] = self._contexts["cpu"]
        self._notes[str(device)] = f"queries and keys of {device} were copied to the host: {why}"


def check_formula(name, query, key, mask, weights, kwargs):
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
    if kwargs.get("alibi") is not None:
        stands = torch.tensor(rows, device=k.device)[:, None] + key.shape[2] - query.shape[2]
        distance = (stands - torch.arange(key.shape[2], device=k.device)).abs()
        scores = scores - kwargs["alibi"].double()[..., None, None] * distance
    seen = torch.ones_like(scores, dtype=torch.bool)
    if mask is not None:
        own = mask[:, :, rows] if mask.shape[2] > 1 else mask
        seen = (own if own.dtype == torch.bool else own > torch.finfo(own.dtype).min).expand_as(scores)
        scores = scores if own.dtype == torch.bool else scores + own.double()
        scores = scores.masked_fill(~seen, -torch.inf)
    largest = scores[seen].abs().max().item() if seen.any() else 0.0
    if kwargs.get("s_aux") is not None:
        sinks = kwargs["s_aux"].double().reshape(1, -1, 1, 1).expand(*scores.shape[:3], 1)
        scores = torch.cat([scores, sinks], dim=-1)
    expected = torch.softmax(scores, dim=-1)[..., : key.shape[2]]
    difference = (expected - weights[:, :, rows].double())[seen.any(-1)].abs()
    # A score is rounded in proportion to its size, and moves its weight by as much; autocast rounds to a type of its own.
    kinds = [query.dtype, weights.dtype]
    if torch.is_autocast_enabled(query.device.type):
        kinds.append(torch.get_autocast_dtype(query.device.type))
    eps = max(torch.finfo(kind).eps for kind in kinds)
    if difference.numel() and not difference.max() <= max(1e-4, eps * max(10.0, largest)):
        raise UnsupportedError(
            f"{name} computes other weights than softmax(scale * q k + mask): they differ by {difference.max():.2g}"
        )


def added_to_scores(mask, bias, keys):
    """What is added to the scores, or a mask of bool: a model's mask and its position bias (T5) for the first keys."""
    import torch

    if mask is not None:
        mask = mask[..., :keys]
    if bias is None:
        return mask
    bias = bias[..., :keys]
    if mask is None:
        return bias
    if mask.dtype == torch.bool:
        return torch.where(mask, bias, -torch.inf)
    # The lowest number stands for hidden, and a bias beside it would be lost in rounding, or overflow.
    return torch.where(mask > torch.finfo(mask.dtype).min, mask + bias, -torch.inf)


def token_ids(module, args, kwargs):
    """The token ids [B, N] that a model is called with."""
    ids = kwargs.get("input_ids")
    if ids is None and args and list(inspect.signature(type(module).forward).parameters)[1:2] == ["input_ids"]:
        ids = args[0]
    # What is written down now must not change when generate appends to it, or a static buffer is filled anew.
    return ids.detach().cpu().clone() if getattr(ids, "ndim", 0) == 2 else None


def ids_of(given, stack, batch, queries):
    """The ids that the model around a stack of layers was given: the innermost whose ids have this shape."""
    around = [
        (len(path), ids)
        for path, ids in given.items()
        if (stack + ".").startswith(path + "." if path else "") and tuple(ids.shape) == (batch, queries)
    ]
    return max(around, key=lambda found: found[0])[1] if around else None


def cache_of(found):
    """The cache among the arguments of a call, or in its output."""
    for name in ("past_key_values", "cache"):
        cache = found.get(name) if isinstance(found, dict) else getattr(found, name, None)
        if hasattr(cache, "get_seq_length"):
            return cache
    return None


def length_of(cache, layer):
    """Positions that a cache holds; None where it cannot say."""
    try:
        return int(cache.get_seq_length(layer))
    except Exception:  # caches are a wide family, and this is a question that they may not know
        return None


def without_compiler():
    """What torch.compile made of the model runs as it is written: compiled code calls no Python. Gives what undoes it."""
    import torch

    stance = getattr(torch.compiler, "set_stance", None)
    if stance is None:
        return lambda: None
    changed = stance("force_eager")
    return lambda: changed.__exit__(None, None, None)
