# SPDX-License-Identifier: Apache-2.0
"""Node and edge tables of one attention matrix, as llamatelemetry's GraphistryBuilders makes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ._extract import from_matrix
from ._inputs import is_array, numbers
from ._operations import row_numbers
from ._optional import optional
from .errors import ShapeError

if TYPE_CHECKING:
    import pandas


def attention_graph(
    attn: Any, tokens: Sequence[Any], threshold: float = 0.15, *, nonfinite: Literal["skip", "error"] = "skip"
) -> tuple[pandas.DataFrame, pandas.DataFrame]:
    """Make pandas tables of the tokens and of the pairs that attend to each other.

    Parameters
    ----------
    attn : array or nested list [Nq, Nk]
        Attention weights: row i holds what token i pays to every token. There is a column for every token; there may
        be fewer rows, which are then those of the first tokens.
    tokens : sequence
        One per column; they go into the table as they are.
    threshold : float
        Keep ``weight >= threshold``, compared in float64.
    nonfinite : {"skip", "error"}
        NaN and infinite weights are no edges, or raise `NonfiniteError`.

    Returns
    -------
    nodes : DataFrame
        Columns id (0, 1, ...) and token.
    edges : DataFrame
        Columns src, dst (int64) and weight (float64), in row-major order, self-loops included; the columns are there
        when there is no edge, too.

    Examples
    --------
    >>> import attngraph as ag
    >>> nodes, edges = ag.attention_graph([[1.0, 0.0], [0.25, 0.75]], ["a", "b"], 0.5)  # doctest: +NEEDS(pandas)
    >>> edges.values.tolist()  # doctest: +NEEDS(pandas)
    [[0.0, 0.0, 1.0], [1.0, 1.0, 0.75]]
    """
    pandas = optional("pandas", "attention_graph")
    tokens = list(tokens)
    matrix = numbers(attn if is_array(attn) else _nested(attn), "attn")
    if matrix.shape == (0,) and not tokens:
        shape = (0, 0)
    else:
        shape = matrix.shape
    if len(shape) != 2 or shape[1] != len(tokens) or shape[0] > shape[1]:
        raise ShapeError(
            f"attn is {list(shape)}; for {len(tokens)} tokens it must be [Nq, {len(tokens)}] with Nq at most {len(tokens)}"
        )
    nodes = pandas.DataFrame({"id": np.arange(len(tokens)), "token": pandas.Series(tokens, dtype=object)})
    if 0 in shape:
        indptr, keys, weights = np.zeros(1, np.int64), np.empty(0, np.int32), np.empty(0)
    else:
        indptr, keys, weights = from_matrix(matrix, threshold, nonfinite=nonfinite).csr()
    edges = {"src": row_numbers(indptr), "dst": keys.astype(np.int64), "weight": weights.astype(np.float64)}
    return nodes, pandas.DataFrame(edges)


def _nested(rows):
    try:
        return np.asarray(rows, dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise ShapeError(f"attn is no rectangular matrix of numbers: {error}") from None
