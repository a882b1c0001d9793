# SPDX-License-Identifier: Apache-2.0
"""The attention weights that models of transformers return: which of an output, and the steps of a generation.

``generate(output_attentions=True)`` gives a tuple of steps, each a tuple of layers [B, H, Nq, Nk]: the prompt first, then
one query at a time.
"""

from ._inputs import is_array
from ._stitch import Place
from .errors import ArgumentError, ShapeError

_NONE = (
    "attn holds no weights. Models compute none under sdpa and flash attention, whatever output_attentions says: "
    'load the model with attn_implementation="eager", or let attngraph.transformers.capture listen, which needs none'
)
_PARTS = {"encoder": "encoder_attentions", "decoder": "decoder_attentions", "cross": "cross_attentions"}


def weights_of(attn, part):
    """The weights in what a model returned, and for each step the rows of the batch that a sequence took (beam search);
    anything else as it is."""
    rows = None
    if _is_output(attn):
        found = [name for name in ("attentions", *_PARTS.values()) if getattr(attn, name, None) is not None]
        name = _PARTS.get(part, "attentions") if part is not None and found != ["attentions"] else None
        if name is None:
            if len(found) > 1:
                raise ArgumentError(f"the output holds {', '.join(found)}; say which: part={'|'.join(_PARTS)!r}")
            name = found[0] if found else "attentions"
        beams = getattr(attn, "beam_indices", None)
        rows = None if beams is None or name == "encoder_attentions" else beams.tolist()
        attn = getattr(attn, name, None)
    if attn is None or (isinstance(attn, (list, tuple)) and all(x is None or _is_nothing(x) for x in attn)):
        raise ArgumentError(_NONE)
    return attn, rows


def is_steps(attn):
    """Whether this is a sequence of steps, each a sequence of layers [B, H, Nq, Nk] (None where a layer has none)."""
    if not isinstance(attn, (list, tuple)) or not attn:
        return False
    return all(
        isinstance(step, (list, tuple))
        and any(layer is not None for layer in step)
        and all(layer is None or (is_array(layer) and len(layer.shape) == 4) for layer in step)
        for step in attn
    )


def placed(steps, part, beams):
    """For each step its layers with the same place, [({layer: weights}, Place)]; and the part that they are of.

    Layers with a sliding window hold the last keys only. Keys of a static cache that nobody wrote yet are cut off.
    """
    for number, step in enumerate(steps):
        if len(step) != len(steps[0]):
            raise ShapeError(f"step {number} has {len(step)} layers, the first has {len(steps[0])}")
    kinds = {
        layer: _kind(layer, [step[layer] for step in steps], part)
        for layer, weights in enumerate(steps[0])
        if weights is not None
    }
    begin, pieces = max(first for _, first in kinds.values()), []
    for number, step in enumerate(steps):
        together = {}
        for layer, (kind, _) in kinds.items():
            weights = step[layer]
            batch, _, count, keys = weights.shape
            if count != step[min(kinds)].shape[2]:
                raise ShapeError(f"layer {layer} of step {number} has {count} queries, others have another number")
            if beams is not None:
                weights = weights[[max(row[number], 0) if number < len(row) else 0 for row in beams]]
            elif batch != steps[0][layer].shape[0]:
                raise ShapeError(f"step {number} has another batch than the first: its sequences cannot be told apart")
            key_begin = 0
            if kind == "self":
                key_begin = max(begin + count - keys, 0)
                weights = weights[..., : begin + count - key_begin]
            together.setdefault(key_begin, {})[layer] = weights
        pieces += [(layers, Place(begin, key_begin)) for key_begin, layers in together.items()]
        begin += count
    return pieces, "cross" if any(kind == "cross" for kind, _ in kinds.values()) else part


def _kind(layer, steps, part):
    """Whether the keys are the queries' own positions ("self") or another sequence's ("cross"), and where the first
    query stands."""
    first = steps[0]
    queries, keys = first.shape[2:]
    counts = [weights.shape[3] for weights in steps]
    constant = len(set(counts)) == 1
    # What a static cache has not written yet weighs nothing.
    past = keys - queries if keys > queries and bool((first[..., queries:] != 0).any()) else 0
    if part is not None:
        return ("cross", 0) if part == "cross" else ("self", past)
    if keys < queries or (past and constant and len(steps) > 1):
        return "cross", 0
    if (keys == queries or past) and constant and len(steps) + past > 1:
        raise ArgumentError(
            f"layer {layer} has {keys} keys for {queries} queries, and no step adds any: a sliding window and cross "
            "attention look the same; give the whole output of generate, or part="
        )
    return "self", past


def _is_output(attn):
    return not is_array(attn) and any(hasattr(attn, name) for name in ("attentions", *_PARTS.values()))


def _is_nothing(value):
    return isinstance(value, (list, tuple)) and all(x is None or _is_nothing(x) for x in value)
