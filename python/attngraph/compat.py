# SPDX-License-Identifier: Apache-2.0
"""Names of other packages, so that a notebook changes one import line and nothing else.

``from attngraph.compat import GraphistryBuilders`` stands in for ``from llamatelemetry.graphistry import
GraphistryBuilders`` where its attention graphs are used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from . import _attention_graph, _inputs, _values
from ._inputs import is_array

if TYPE_CHECKING:
    import pandas


class GraphistryBuilders:
    """The part of llamatelemetry's class of this name that is about attention."""

    @staticmethod
    def attention_graph(
        attention: Any, tokens: Sequence[Any] | None = None, threshold: float = 0.0
    ) -> tuple[pandas.DataFrame, pandas.DataFrame]:
        """Make pandas tables of the tokens and of the pairs that attend to each other.

        As `attngraph.attention_graph`, with llamatelemetry's names and defaults. Where the original stops with an
        error or an odd answer, this one is defined: an answer without edges keeps its columns, there may be fewer
        rows than columns, more rows than columns raise `ShapeError`, and NaN and infinite weights are no edges.

        Parameters
        ----------
        attention : array, tensor or nested list [Nq, Nk]
            Attention weights: row i holds what token i pays to every token.
        tokens : sequence, optional
            One per column; "0", "1", ... unless given.
        threshold : float
            Keep ``weight >= threshold``, compared in float64; weights and threshold may be negative.

        Returns
        -------
        nodes : DataFrame
            Columns id (0, 1, ...) and token.
        edges : DataFrame
            Columns src, dst and weight, in row-major order, self-loops included.

        Examples
        --------
        >>> from attngraph.compat import GraphistryBuilders
        >>> attention = [[0.5, 0.5], [0.1, 0.9]]
        >>> nodes, edges = GraphistryBuilders.attention_graph(attention, ["a", "b"], 0.5)
        >>> edges.values.tolist()
        [[0.0, 0.0, 0.5], [0.0, 1.0, 0.5], [1.0, 1.0, 0.9]]
        """
        if not is_array(attention):
            attention = _inputs.nested(attention)
        threshold = _values.number(threshold, "threshold")
        tokens = [] if tokens is None else list(tokens) if isinstance(tokens, str) else _values.listed(tokens, "tokens")
        if not tokens:
            tokens = [str(position) for position in range(attention.shape[-1] if len(attention.shape) else 0)]
        nodes, edges = _attention_graph.attention_graph(attention, tokens, max(threshold, 0.0))
        if threshold <= 0:  # the library's 0 keeps every pair, also one of negative weight (scores, not a softmax)
            edges = edges[edges["weight"] >= threshold].reset_index(drop=True)
        return nodes, edges
