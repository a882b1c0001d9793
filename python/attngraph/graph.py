# SPDX-License-Identifier: Apache-2.0
"""The graph: what `extract` and `from_matrix` return."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from typing import Any, Literal

from . import _export, _native, _operations, _parts, _values, _views
from ._flow import Flows
from ._labels import Words, lists_of
from ._questions import Questions
from .edges import Edges
from .errors import ArgumentError, NotFoundError, UnsupportedError
from .records import Columns, Coverage, Csr, Difference, Edge, Report, Rows, Slice, Summary, SweepRow


class Graph(_export.Exports, Questions, Flows, _views.Views):
    """Edges query -> key with their attention weights, in one slice per (batch, layer, head).

    Graphs come from `extract`, `from_matrix`, `from_slices`, `concat` and `load`, and do not change. Arrays that a
    graph hands out are views of its memory: they cannot be written, and they keep it alive.

    Examples
    --------
    >>> import attngraph as ag
    >>> g = ag.from_matrix([[1.0, 0.0], [0.25, 0.75]], threshold=0.5)
    >>> len(g), g.slices[0].key_count
    (2, 2)
    """

    def __init__(self, result):
        self._result = result
        self._slices = [Slice(*row) for row in result.slices().tolist()]
        self._places = {}
        for place, s in enumerate(self._slices):
            self._places.setdefault(s[:3], []).append(place)
        self._known_words = None  # not asked for yet
        self._query_offset = result.query_offset()  # query i stands at this + i

    # ------------------------------------------------------------------------------------------------------------
    # what it holds

    def __len__(self) -> int:
        """Number of edges."""
        return self._result.edge_count()

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"<attngraph.Graph: {self._shape_text()}, {len(self):,} edges, {self._mass_text()}>"

    def _shape_text(self):
        parts = []
        for field, word in enumerate(("batch", "layer", "head")):
            count = len({s[field] for s in self._slices})
            parts.append(f"{count} {word}{'' if count == 1 else 'es' if word == 'batch' else 's'}")
        queries = max((s.query_begin + s.query_count for s in self._slices), default=0)
        keys = max((s.key_count for s in self._slices), default=0)
        return f"{' x '.join(parts)}, {queries:,} queries x {keys:,} keys"

    def _mass_text(self):
        return f"{100 * self._result.report()['kept_mass']:.1f} % of the mass kept"

    @property
    def _words(self):
        if self._known_words is None:
            keys, queries = (lists_of(self._result, side) for side in (False, True))
            self._known_words = Words(keys, queries, self._query_offset, self._result.two_sided())
        return self._known_words

    def _positions(self):
        """Number of positions at which a query or a key stands."""
        return max(
            (max(s.query_begin + s.query_count + self._query_offset, s.key_count) for s in self._slices), default=0
        )

    @property
    def slices(self) -> list[Slice]:
        """The (batch, layer, head) slices, in order: a list of `Slice`.

        Examples
        --------
        >>> import attngraph as ag
        >>> ag.from_matrix([[1.0]]).slices[0].edge_count
        1
        """
        return list(self._slices)

    @property
    def tokens(self) -> list[str] | None:
        """Labels of the positions, as a list of str; None when there are none, or when every sequence of the batch has
        its own, see `labels`. Bytes that are no UTF-8 come as lone surrogates (``errors="surrogateescape"``)."""
        lists = lists_of(self._result, False)
        return (lists[0] or None) if len(lists) == 1 else None

    def labels(self, side: Literal["keys", "queries"] = "keys") -> list[str] | list[list[str]] | None:
        """Words of the keys or of the queries: one list for all, or one for each sequence of the batch; None when there
        are none. Queries have words of their own only where they are another sequence than the keys.

        Examples
        --------
        >>> import attngraph as ag
        >>> ag.from_matrix([[0.5, 0.5]], tokens=["chat", "noir"], query_tokens=["cat"]).labels("queries")
        ['cat']
        """
        _values.one_of(side, "side", "keys", "queries")
        lists = lists_of(self._result, side == "queries")
        return None if not lists else lists[0] if len(lists) == 1 else lists

    @property
    def metadata(self) -> dict[str, str]:
        """Facts that travel with the graph, as texts: threshold, scale, causal and so on."""
        facts = self._result.metadata()
        return {name.decode("utf-8", "replace"): value.decode("utf-8", "replace") for name, value in facts.items()}

    @property
    def report(self) -> Report:
        """How the graph was made: a `Report`.

        Examples
        --------
        >>> import attngraph as ag
        >>> ag.from_matrix([[1.0]]).report.kept_mass
        1.0
        """
        return Report(**self._result.report())

    @property
    def edges(self) -> Edges:
        """All edges as a table with the columns batch, layer, head, query, key, weight, in that order, and with
        query_token and key_token when there are tokens: query i has the token where it stands, at
        ``i + query_offset``. See `Edges`.

        Examples
        --------
        >>> import attngraph as ag
        >>> ag.from_matrix([[1.0, 0.0], [0.25, 0.75]], threshold=0.5).edges["key"]
        array([0, 1], dtype=int32)
        """
        return Edges(self)

    def _place(self, layer, head, batch):
        batch, layer, head = (
            _values.integer(value, name) for value, name in ((batch, "batch"), (layer, "layer"), (head, "head"))
        )
        places = self._places.get((batch, layer, head))
        if places is None:
            have = ", ".join(str(tuple(s[:3])) for s in self._slices[:4])
            more = ", ..." if len(self._slices) > 4 else ""
            raise NotFoundError(
                f"there is no slice (batch, layer, head) = {(batch, layer, head)}; there are {have or 'none'}{more}"
            )
        if len(places) > 1:
            raise UnsupportedError(
                f"(batch, layer, head) = {(batch, layer, head)} is in {len(places)} query ranges; "
                "attngraph.concat([graph]) joins them"
            )
        return places[0]

    def csr(self, layer: int = 0, head: int = 0, batch: int = 0) -> Csr:
        """One slice as CSR, without a copy: ``(indptr, indices, data)``.

        Row r is query ``slice.query_begin + r``. The arrays are int64, int32 and float32 (float64 for a float64
        matrix); keys ascend within a row.

        Examples
        --------
        >>> import attngraph as ag
        >>> indptr, indices, data = ag.from_matrix([[1.0, 0.0], [0.25, 0.75]], threshold=0.5).csr()
        >>> indptr.tolist(), indices.tolist(), data.tolist()
        ([0, 1, 2], [0, 1], [1.0, 0.75])
        """
        return Csr(*self._result.csr(self._place(layer, head, batch)))

    def rows(self, layer: int = 0, head: int = 0, batch: int = 0) -> Rows:
        """Statistics of the rows of one slice, without a copy: a `Rows`.

        Examples
        --------
        >>> import attngraph as ag
        >>> ag.from_matrix([[1.0, 0.0], [0.25, 0.75]], threshold=0.5).rows().kept_mass.tolist()
        [1.0, 0.75]
        """
        return Rows(*self._result.rows(self._place(layer, head, batch)))

    def columns(self, layer: int = 0, head: int = 0, batch: int = 0) -> Columns:
        """Attention received by every key, and mass by distance, of one slice: a `Columns`.

        Empty unless the graph was made with ``stats=("columns", "distances")``.

        Examples
        --------
        >>> import attngraph as ag
        >>> ag.from_matrix([[1.0, 0.0], [0.25, 0.75]], threshold=0.5, stats="columns").columns().received.tolist()
        [1.25, 0.75]
        """
        return Columns(*self._result.columns(self._place(layer, head, batch)))

    # ------------------------------------------------------------------------------------------------------------
    # questions

    def top(self, n: int, **part: Any) -> list[Edge]:
        """The n heaviest edges, heaviest first, ties in table order: a list of `Edge`. Of a part of the graph, with the
        parameters of `filter`.

        Examples
        --------
        >>> import attngraph as ag
        >>> g = ag.from_matrix([[1.0, 0.0], [0.25, 0.75]], threshold=0.2)
        >>> g.top(2)[1].weight, g.top(1, without_first=True)[0].weight
        (0.75, 0.75)
        """
        n = _values.integer(n, "n", least=0)
        edges = self._result.top_of(n, _parts.part_of(self, **part)) if part else self._result.top(n)
        return [Edge(*row) for row in edges]

    def sweep(self, thresholds: Iterable[float]) -> list[SweepRow]:
        """Edges, kept mass and nodes for each threshold, in one pass: a list of `SweepRow`.

        Examples
        --------
        >>> import attngraph as ag
        >>> g = ag.from_matrix([[1.0, 0.0], [0.25, 0.75]], threshold=0)
        >>> [row.edges for row in g.sweep([0, 0.25, 0.5])]
        [4, 3, 2]
        """
        thresholds = _values.listed(thresholds, "thresholds", "numbers")
        wanted = [_values.number(t, f"thresholds[{place}]") for place, t in enumerate(thresholds)]
        return [SweepRow(*row) for row in self._result.sweep(wanted)]

    def coverage(self) -> list[Coverage]:
        """How much probability mass the edges hold, over the rows of each slice: a list of `Coverage`.

        Examples
        --------
        >>> import attngraph as ag
        >>> ag.from_matrix([[1.0, 0.0], [0.25, 0.75]], threshold=0.5).coverage()[0].mean
        0.875
        """
        return [Coverage(*row) for row in _operations.coverage(self)]

    def stats(self, layer: int | None = None, head: int | None = None, batch: int = 0) -> Summary:
        """Figures of the whole graph, or of the slice of a layer and head: a `Summary`.

        Examples
        --------
        >>> import attngraph as ag
        >>> ag.from_matrix([[1.0, 0.0], [0.25, 0.75]], threshold=0.5).stats().self_share
        1.0
        """
        if layer is None and head is None:
            return Summary(**self._result.summary(-1))
        if layer is None or head is None:
            raise ArgumentError("stats takes a layer and a head, or neither for the whole graph")
        return Summary(**self._result.summary(self._place(layer, head, batch)))

    def diff(self, other: Graph, band: float = 1e-5) -> Difference:
        """What sets two graphs apart: a `Difference`, true when something does.

        An edge in one graph only is no difference when its weight is within `band` (relative) of the threshold. What
        moved, and how far, is answered by `diff_heads` and `diff_pairs`.

        Examples
        --------
        >>> import attngraph as ag
        >>> a = ag.from_matrix([[1.0, 0.0], [0.25, 0.75]], threshold=0.5)
        >>> bool(a.diff(a)), a.diff(ag.from_matrix([[1.0, 0.6], [0.25, 0.75]], threshold=0.5)).only_b
        (False, 1)
        """
        if not isinstance(other, Graph):
            raise ArgumentError(f"other is {type(other).__name__}; it is a Graph")
        d = self._result.diff(other._result, _values.number(band, "band"))
        d["first"] = None if d["first"] is None else Edge(*d["first"])
        return Difference(**d)

    # ------------------------------------------------------------------------------------------------------------
    # other graphs out of it

    def filter(
        self,
        threshold: float = 0.0,
        *,
        top_k: int | None = None,
        layers: int | Iterable[int] | None = None,
        heads: int | Iterable[int] | Iterable[tuple[int, int]] | None = None,
        queries: tuple[int | None, int | None] | None = None,
        keys: tuple[int | None, int | None] | None = None,
        distance: tuple[int | None, int | None] | None = None,
        without_first: bool = False,
        query_tokens: str | Iterable[str] | None = None,
        key_tokens: str | Iterable[str] | None = None,
        budget: int | None = None,
        head_budget: int | None = None,
    ) -> Graph:
        """A smaller graph; the conditions given hold together.

        Kept mass is counted anew. Rows stay, except for those outside `queries`.

        Parameters
        ----------
        threshold, top_k : optional
            ``weight >= threshold``, and at most `top_k` edges of a query.
        layers, heads : optional
            Of these layers, of these heads; heads may be pairs too: ``heads=[(0, 5), (3, 1)]`` are (layer, head).
        queries, keys : (begin, end), optional
            Queries and keys from begin to before end; None leaves an end open.
        distance : (least, most), optional
            Of the query's position and the key, both included: ``(1, 16)`` is up to 16 positions back.
        without_first : bool
            Without edges to key 0, on which many heads rest.
        query_tokens, key_tokens : str or sequence of str, optional
            Only queries, only keys, whose token is one of these, white space around it aside.
        budget, head_budget : int, optional
            Of what is left, only so many of the heaviest edges: of the whole graph, of every head of a layer and sequence.
            Of equally heavy ones the first.

        Examples
        --------
        >>> import attngraph as ag
        >>> g = ag.from_matrix([[1.0, 0.0], [0.25, 0.75]], threshold=0, tokens=["a", " b"])
        >>> len(g.filter(0.5)), len(g.filter(key_tokens="b")), len(g.filter(0.1, distance=(1, None)))
        (2, 2, 1)
        >>> [(e.query, e.key) for e in g.filter(budget=2).top(5)]
        [(0, 0), (1, 1)]
        """
        part = _parts.part_of(
            self, threshold, top_k=top_k, layers=layers, heads=heads, queries=queries, keys=keys, distance=distance,
            without_first=without_first, query_tokens=query_tokens, key_tokens=key_tokens,
        )  # fmt: skip
        smaller = self._result.part(part)
        if budget is not None or head_budget is not None:
            sink = _parts.with_budget(_native.Sink.collect(), budget, head_budget)
            smaller.write(sink)
            smaller = sink.take_result()
        return Graph(smaller)

    def aggregate(self, how: Literal["mean", "max", "sum"] = "mean", over: Literal["head", "layer"] = "head") -> Graph:
        """Join the heads of every layer ("head") or the layers of every head ("layer") into one graph.

        A pair that is an edge somewhere is an edge of the answer. "mean" divides by the number of slices joined, also
        where the pair was no edge in some: below the threshold a weight is unknown and counts as 0, so means are lower
        bounds. What was joined is labelled 0. Weights are float64.

        Examples
        --------
        >>> import attngraph as ag
        >>> g = ag.from_matrix([[[1.0, 0.0], [0.5, 0.5]], [[1.0, 0.0], [0.1, 0.9]]], threshold=0.2)
        >>> g.aggregate("max").csr().data.tolist()
        [1.0, 0.5, 0.9]
        """
        return _operations.aggregate(self, how, over)

    # ------------------------------------------------------------------------------------------------------------
    # copies

    def __reduce__(self):
        from ._making import from_bytes

        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "graph.safetensors")
            self.save(path)
            with open(path, "rb") as file:
                return from_bytes, (file.read(),)
