# SPDX-License-Identifier: Apache-2.0
"""Node and edge tables of one attention matrix, as llamatelemetry's GraphistryBuilders makes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from . import _values
from ._extract import from_matrix
from ._inputs import is_array, nested, numbers
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
    tokens = tokens if isinstance(tokens, str) else _values.listed(tokens, "tokens")
    tokens = list(tokens)
    matrix = numbers(attn if is_array(attn) else nested(attn), "attn")
    if matrix.shape == (0,) and not tokens:
        shape = (0, 0)
    else:
        shape = matrix.shape
    if len(shape) != 2 or shape[1] != len(tokens) or shape[0] > shape[1]:
        raise ShapeError(
            f"attn is {list(shape)}; for {len(tokens)} tokens it must be [Nq, {len(tokens)}] with Nq at most "
            f"{len(tokens)}"
        )
    nodes = _node_table(pandas, tokens)
    if 0 in shape:
        indptr, keys, weights = np.zeros(1, np.int64), np.empty(0, np.int32), np.empty(0)
    else:
        threads = 1 if shape[0] * shape[1] <= _SMALL else None
        indptr, keys, weights = from_matrix(matrix, threshold, nonfinite=nonfinite, threads=threads).csr()
    return nodes, _edge_table(pandas, indptr, keys, weights)


def _node_table(pandas, tokens):
    texts = np.fromiter(tokens, object, len(tokens))  # as they are: no guess of a type
    return _table(pandas, ("id", "token"), [np.arange(len(tokens), dtype=np.int64)[None], texts[None]])


def _edge_table(pandas, indptr, keys, weights):
    ends = np.empty((2, len(keys)), np.int64)
    ends[0] = row_numbers(indptr)
    ends[1] = keys
    return _table(pandas, ("src", "dst", "weight"), [ends, weights.astype(np.float64)[None]])


def _table(pandas, names, blocks):
    """A DataFrame of blocks [columns, rows] that nobody else holds.

    For a thousand tokens the usual constructor takes half as long as finding the edges: it looks for types that are
    known here, and makes the same column labels anew each time.
    """
    if names not in _labels:
        _labels[names] = pandas.Index(names)
    rows = pandas.RangeIndex(blocks[0].shape[1])
    try:
        from pandas.api.internals import create_dataframe_from_blocks  # pandas 3
    except ImportError:
        columns = [column for block in blocks for column in block]
        table = pandas.DataFrame({i: pandas.Series(column, rows, column.dtype) for i, column in enumerate(columns)})
        table.columns = _labels[names]
        return table
    ends = np.cumsum([0] + [len(block) for block in blocks])
    places = [(block, np.arange(*ends[i : i + 2])) for i, block in enumerate(blocks)]
    return create_dataframe_from_blocks(places, index=rows, columns=_labels[names])


_labels = {}
_SMALL = 1 << 21  # weights that one thread has read before another has begun
