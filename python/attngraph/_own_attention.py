# SPDX-License-Identifier: Apache-2.0
"""Attention that transformers has written into its models, beside its attention interface: BLOOM and MPT, whose scores
fall by distance (ALiBi)."""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple


class Seen(NamedTuple):
    """What one call of an attention module attended with."""

    query: Any  # [B, Hq, Nq, D]
    key: Any  # [B, Hkv, Nk, D], all that the cache holds
    mask: Any  # as attention functions of the interface get it
    bias: Any  # [B or 1, Hq, 1, Nk], added to the scores
    scaling: float
    weights: Any


def watch(model, saw):
    """Call saw(module, seen) after every call of such a module; gives what undoes it, empty when there are none."""
    undo = []
    for module in model.modules():
        names = {kind.__name__ for kind in type(module).__mro__ if kind.__module__.startswith("transformers.")}
        for name, (projection, read) in _READERS.items():
            if name in names and hasattr(module, projection):
                undo += _hooks(module, getattr(module, projection), read, saw)
    return undo


def _hooks(module, projection, read, saw):
    signature, projected = inspect.signature(type(module).forward), []

    def keep(_, __, output):
        projected[:] = [output]

    def after(module, args, kwargs, output):
        if projected:
            given = signature.bind(module, *args, **kwargs).arguments
            saw(module, Seen(*read(module, given, projected.pop()), output[1]))

    return [
        projection.register_forward_hook(keep).remove,
        module.register_forward_hook(after, with_kwargs=True).remove,
    ]


def _bloom(module, given, projected):
    query, key, _ = module._reshape(projected)
    bias = given["alibi"].reshape(query.shape[0], query.shape[1], 1, -1)
    return query, _cached(given.get("layer_past"), module, key), given["attention_mask"], bias, module.inv_norm_factor


def _mpt(module, given, projected):
    if module.clip_qkv:
        projected = projected.clamp(min=-module.clip_qkv, max=module.clip_qkv)
    heads = (*projected.shape[:2], module.n_heads, module.head_dim)
    query, key, _ = (part.reshape(heads).transpose(1, 2) for part in projected.chunk(3, dim=2))
    key = _cached(given.get("cache", given.get("past_key_values")), module, key)
    bias, hidden = given["position_bias"][None, :, -1:, -key.shape[2] :], given.get("attention_mask")
    return query, key, None if hidden is None else ~hidden, bias, module.softmax_scale


def _cached(cache, module, own):
    """The keys after the module has put its own into the cache."""
    return own if cache is None else cache.layers[module.layer_idx].keys


_READERS = {"BloomAttention": ("query_key_value", _bloom), "MptAttention": ("Wqkv", _mpt)}


def slopes_of(bias, mask):
    """The slopes [B or 1, Hq] of a bias that falls by distance and nothing else, wherever the mask lets a key be seen;
    None for any other, as of 16-bit numbers, which far away are rounded by whole steps of a slope."""
    import torch

    bias = bias.float() if bias.dtype in (torch.float16, torch.bfloat16) else bias
    size = bias.abs()
    slopes = size.masked_fill(size == 0, torch.inf).amin(-1)  # [B, H, 1]: of the keys at distance 1
    slopes = slopes.masked_fill(torch.isinf(slopes), 0)
    steps = torch.where(slopes[..., None] > 0, bias / slopes[..., None], 0).round()
    seen = torch.ones_like(bias, dtype=torch.bool)
    if mask is not None:
        own = mask[..., : bias.shape[-1]]
        own = own if own.dtype == torch.bool else own > torch.finfo(own.dtype).min
        seen = own.any(-2, keepdim=True).expand(own.shape[0], bias.shape[1], 1, own.shape[-1])
    # Where the first key stands is nobody's concern: softmax does not see it.
    from_first = steps - torch.arange(bias.shape[-1], device=bias.device)
    from_first = from_first.expand(seen.shape)
    low = from_first.masked_fill(~seen, torch.inf).amin(-1)
    high = from_first.masked_fill(~seen, -torch.inf).amax(-1)
    flat = (slopes == 0).expand(low.shape)
    exact = ((steps * slopes[..., None] - bias).abs() <= 2.0**-21 * size).expand(seen.shape) | ~seen
    return slopes[..., 0] if bool((((low >= high) | flat) & exact.all(-1)).all()) else None
