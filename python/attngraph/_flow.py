# SPDX-License-Identifier: Apache-2.0
"""What attention passes on, from position to position and layer to layer: one method for each way of asking."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from . import _values
from .tables import Table

if TYPE_CHECKING:
    from .graph import Graph
    from .records import Flow


class Flows:
    """The questions of `Graph` about ways through its edges. What lies below the threshold is no way."""

    def rollout(
        self,
        *,
        residual: float = 0.5,
        threshold: float = 0.0,
        fusion: Literal["mean", "max"] = "mean",
        without_first: bool = False,
    ) -> Graph:
        """Attention rollout (Abnar & Zuidema 2020) on the kept edges: how much of every input position reaches every
        position through all layers of the graph.

        In each layer the heads are joined (`fusion`: "mean" or "max"), rows renormalised to 1, and mixed with the
        identity, ``(1 - residual) * A + residual * I``; the layers are multiplied, later ones from the left. A row
        without edges passes on its own position only. Needs square slices and SciPy; the product fills up, so a
        `threshold` on the answer is advisable for long inputs. The answer has one slice per batch, labelled layer 0,
        head 0. With `without_first`, edges to key 0, on which many heads rest, are left out before rows are
        renormalised: what is left is where the attention goes that goes anywhere.

        Examples
        --------
        >>> import attngraph as ag
        >>> g = ag.from_matrix([[1.0, 0.0], [0.5, 0.5]], threshold=0.2)
        >>> g.rollout().to_scipy().toarray().tolist()
        [[1.0, 0.0], [0.25, 0.75]]
        >>> g.rollout(without_first=True).to_scipy().toarray().tolist()
        [[1.0, 0.0], [0.0, 1.0]]
        """
        from ._token_graph import rollout

        return rollout(self, residual, threshold, fusion, _values.flag(without_first, "without_first"))

    def heaviest_path(self, query: int, key: int, *, residual: float = 0.5, batch: int = 0) -> Table:
        """The heaviest way from an input position through all layers of the graph to a query: one step a layer.

        A step takes an edge of some head, with ``(1 - residual)`` times its weight, or stays where it is, with
        `residual`; the way whose product is largest is the answer. Only kept edges are ways.

        Returns
        -------
        Table
            layer, head (-1: it stayed), query, key and weight of every step, lowest layer first.

        Examples
        --------
        >>> import attngraph as ag
        >>> g = ag.from_matrix([[[[1, 0, 0], [0.9, 0.1, 0], [0, 0.8, 0.2]]]] * 2, threshold=0.1)
        >>> way = g.heaviest_path(2, 0)
        >>> way["query"].tolist(), way["weight"].tolist()
        ([1, 2], [0.45, 0.4])
        """
        from ._paths import heaviest_path

        return heaviest_path(self, query, key, residual, batch)

    def flow(
        self,
        query: int,
        key: int,
        *,
        residual: float = 0.5,
        fusion: Literal["mean", "max"] = "mean",
        without_first: bool = False,
        batch: int = 0,
    ) -> Flow:
        """Attention flow (Abnar & Zuidema 2020): the most that can pass from an input position through all layers of the
        graph to a query, when an edge carries at most its weight.

        Layers are prepared as for `rollout`; what may enter a query is therefore 1. The maximum is found in double by
        igraph, among the edges that lie on some way from the one to the other, which is what memory grows with.

        Returns
        -------
        Flow
            `value`, and `edges`, a Table of layer, query, key and flow: one way of carrying it, lowest layer first. A
            query with itself as key is the residual connection and what the heads add to it.

        Examples
        --------
        >>> import attngraph as ag
        >>> g = ag.from_matrix([[[[1, 0, 0], [0.5, 0.5, 0], [0, 0.5, 0.5]]]] * 2, threshold=0.1)
        >>> g.flow(2, 0).value  # doctest: +NEEDS(igraph)
        0.25
        """
        from ._token_graph import flow

        return flow(self, query, key, residual, fusion, _values.flag(without_first, "without_first"), batch)

    def pagerank(self, *, damping: float = 0.85, batch: int = 0) -> np.ndarray:
        """PageRank of every position: where a walk along the edges, from query to key, is found in the long run.

        Weights of all heads and layers are added (`filter` chooses among them); with 1 - `damping`, and from a position
        without edges, the walk jumps anywhere. To 1e-12, summed over the positions. Needs SciPy.

        Returns
        -------
        numpy.ndarray
            [positions], float64, sum 1.

        Examples
        --------
        >>> import attngraph as ag
        >>> g = ag.from_matrix([[1.0, 0.0], [0.5, 0.5]], threshold=0.2)
        >>> g.pagerank().round(4).tolist()  # doctest: +NEEDS(scipy)
        [0.8696, 0.1304]
        """
        from ._token_graph import pagerank

        return pagerank(self, damping, batch)

    def components(self, *, connection: Literal["weak", "strong"] = "weak", batch: int = 0) -> np.ndarray:
        """The component that every position belongs to, numbered from 0: positions between which edges lead, of any head
        and layer (`filter` chooses among them), whatever their direction ("weak") or there and back ("strong").

        Needs SciPy.

        Examples
        --------
        >>> import attngraph as ag
        >>> g = ag.from_matrix([[1, 0, 0], [0.9, 0.1, 0], [0, 0.1, 0.9]], threshold=0.5)
        >>> g.components().tolist()  # doctest: +NEEDS(scipy)
        [0, 0, 1]
        """
        from ._token_graph import components

        return components(self, connection, batch)
