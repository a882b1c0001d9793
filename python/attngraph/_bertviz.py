# SPDX-License-Identifier: Apache-2.0
"""`head_view` and `model_view` with BertViz's arguments, on the viewer: an import line to change."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

from . import _values
from ._extract import from_matrix
from ._labels import listed
from ._views import Page
from .errors import ArgumentError
from .graph import Graph


def head_view(
    attention: Any = None,
    tokens: Sequence[str] | None = None,
    sentence_b_start: int | None = None,
    prettify_tokens: bool = True,
    layer: int | None = None,
    heads: Iterable[int] | None = None,
    encoder_attention: Any = None,
    decoder_attention: Any = None,
    cross_attention: Any = None,
    encoder_tokens: Sequence[str] | None = None,
    decoder_tokens: Sequence[str] | None = None,
    include_layers: Iterable[int] | None = None,
    html_action: Literal["view", "return"] = "view",
    *,
    threshold: float = 0.01,
    height: int = 680,
) -> Page | None:
    """Show attention as ``bertviz.head_view`` does, in attngraph's viewer, whatever the length.

    Parameters
    ----------
    attention : the tuple that transformers returns (a [1, H, S, S] for each layer), any ready attention that
        `from_matrix` takes, or a `Graph`
    tokens : words
    prettify_tokens : taken; Ġ and ▁ are always shown as the spaces that they are
    layer, heads, include_layers : which; `layer` is where BertViz begins, here it is a part
    encoder_attention, decoder_attention, cross_attention, encoder_tokens, decoder_tokens : of an encoder-decoder model;
        give one of the three attentions at a time
    sentence_b_start : taken, but there is no menu for it: drag or zoom to the part of interest
    html_action : "view" shows it in a notebook, "return" gives the page
    threshold : weights below it are left out, and the page says how much of the attention stays

    Examples
    --------
    >>> import attngraph as ag
    >>> page = ag.head_view([[[[1.0, 0.0], [0.25, 0.75]]]], ["a", "b"], html_action="return")
    >>> page.html[:15]
    '<!doctype html>'
    """
    chosen = include_layers if layer is None else [layer]
    return _show(
        attention, tokens, chosen, heads, encoder_attention, decoder_attention, cross_attention,
        encoder_tokens, decoder_tokens, html_action, threshold, height,
    )  # fmt: skip


def model_view(
    attention: Any = None,
    tokens: Sequence[str] | None = None,
    sentence_b_start: int | None = None,
    prettify_tokens: bool = True,
    display_mode: Literal["dark", "light"] = "dark",
    encoder_attention: Any = None,
    decoder_attention: Any = None,
    cross_attention: Any = None,
    encoder_tokens: Sequence[str] | None = None,
    decoder_tokens: Sequence[str] | None = None,
    include_layers: Iterable[int] | None = None,
    include_heads: Iterable[int] | None = None,
    html_action: Literal["view", "return"] = "view",
    *,
    threshold: float = 0.01,
    height: int = 680,
) -> Page | None:
    """Show attention as ``bertviz.model_view`` does, in attngraph's viewer: all layers and heads at once.

    Arguments are those of `head_view`; `display_mode` is taken, and the page follows the reader's system, with a button
    for light and dark.

    Examples
    --------
    >>> import attngraph as ag
    >>> page = ag.model_view([[[[1.0, 0.0], [0.25, 0.75]]]], ["a", "b"], html_action="return")
    """
    return _show(
        attention, tokens, include_layers, include_heads, encoder_attention, decoder_attention,
        cross_attention, encoder_tokens, decoder_tokens, html_action, threshold, height,
    )  # fmt: skip


def _show(
    attention, tokens, layers, heads, encoder, decoder, cross, encoder_tokens, decoder_tokens, action, threshold,
    height,
):  # fmt: skip
    _values.one_of(action, "html_action", "view", "return")
    given = {
        "attention": (attention, tokens, None),
        "encoder_attention": (encoder, encoder_tokens, None),
        "decoder_attention": (decoder, decoder_tokens, None),
        "cross_attention": (cross, encoder_tokens, decoder_tokens),
    }
    present = [name for name, (weights, _, _) in given.items() if weights is not None]
    if len(present) != 1:
        raise ArgumentError(f"give one of {', '.join(given)}; there are {', '.join(present) or 'none'}")
    weights, keys, queries = given[present[0]]
    if isinstance(weights, Graph):
        graph = weights
    else:
        if keys is None:
            raise ArgumentError(f"{present[0]} needs its tokens")
        words = [word if isinstance(word, (str, bytes)) else str(word) for word in listed(keys)]
        graph = from_matrix(weights, threshold, tokens=words)
    page = graph.view(height=height, query_tokens=queries, layers=layers, heads=heads)
    if action == "return":
        return page
    from IPython.display import display

    display(page)
    return None
