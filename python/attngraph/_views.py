# SPDX-License-Identifier: Apache-2.0
"""The looks of a graph: the viewer's page, static pictures, charts."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, Literal, Optional, Union

import numpy as np

from . import _native, _picture, _plot, _values
from ._labels import set_labels
from ._optional import optional
from .errors import ArgumentError, LimitError

if TYPE_CHECKING:
    import altair

Path = Union[str, "os.PathLike[str]"]
Range = Optional[tuple]
_NOTEBOOK_BYTES = 64 << 20
_REPR_HEADS = 72


class Page:
    """The viewer's page in a notebook: a frame that asks the network for nothing and needs no running kernel.

    `html` is the page as text; `save` writes it to a file.

    >>> import attngraph as ag
    >>> ag.from_matrix([[1.0]]).view().html[:15]
    '<!doctype html>'
    """

    def __init__(self, html: str, height: int):
        self.html, self.height = html, height

    def __repr__(self) -> str:
        return f"<attngraph.Page: {len(self.html):,} characters; g.to_html(path) writes a file for the browser>"

    def _repr_html_(self) -> str:
        # In a frame of its own nothing of the page meets the notebook: no style, no id, no script.
        return (
            f'<iframe sandbox="allow-scripts allow-downloads allow-modals" title="attngraph" '
            f'style="width: 100%; height: {self.height}px; border: 0; border-radius: 8px" '
            f'srcdoc="{escape(self.html, quote=True)}"></iframe>'
        )

    def save(self, path: Path) -> None:
        """Write the page to a file."""
        with open(path, "w", encoding="utf-8") as file:
            file.write(self.html)


class Views:
    """The methods of `Graph` that make something to look at."""

    def to_html(
        self,
        path: Path,
        *,
        threshold: float = 0.0,
        layers: int | Iterable[int] | None = None,
        heads: int | Iterable[int] | None = None,
        query_tokens: Sequence[str] | None = None,
    ) -> None:
        """Write the viewer's page: one HTML file with the graph in it, for any browser, without a network.

        All heads as small pictures, a map of each that zooms down to words, the text with who looks at whom, arcs, and
        a threshold that can be raised.

        Parameters
        ----------
        path : path of the file; it appears whole or not at all
        threshold, layers, heads : only a part of the graph, as `filter` takes them
        query_tokens : words of the queries, where they are another text than the keys (cross attention)

        Raises
        ------
        LimitError
            The graph has more edges than a browser can hold (60 million).

        Examples
        --------
        >>> import attngraph as ag, os, tempfile
        >>> g = ag.from_matrix([[1.0, 0.0], [0.25, 0.75]], tokens=["a", "b"])
        >>> g.to_html(os.path.join(tempfile.mkdtemp(), "graph.html"))
        """
        graph, threshold = self, _values.number(threshold, "threshold")
        if threshold > 0 or layers is not None or heads is not None:
            graph = self.filter(threshold, layers=layers, heads=heads)
        sink = _native.Sink.file(_values.path(path), "html", False, False, False, False)
        if query_tokens is not None:
            set_labels(sink, None, query_tokens)
        graph._result.write(sink)
        sink.finish()

    def view(self, *, height: int = 680, max_bytes: int = _NOTEBOOK_BYTES, **part: Any) -> Page:
        """The viewer's page as the output of a notebook's cell: JupyterLab, VS Code, Colab.

        The page is kept with the notebook and shows without a kernel. A page of more than `max_bytes` is refused, since
        the notebook would keep all of it. Other arguments are those of `to_html`.

        Examples
        --------
        >>> import attngraph as ag
        >>> "srcdoc" in ag.from_matrix([[1.0, 0.0], [0.25, 0.75]]).view()._repr_html_()
        True
        """
        height, max_bytes = (_values.positive(n, name) for n, name in ((height, "height"), (max_bytes, "max_bytes")))
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "page.html")
            self.to_html(path, **part)
            size = os.path.getsize(path)
            if size > max_bytes:
                raise LimitError(
                    f"the page has {size:,} bytes, more than max_bytes = {max_bytes:,}, and the notebook would keep them; "
                    "raise threshold=, choose layers= and heads=, or write a file with to_html"
                )
            with open(path, encoding="utf-8") as file:
                return Page(file.read(), height)

    def bins(
        self,
        layer: int = 0,
        head: int = 0,
        shape: tuple[int, int] = (64, 64),
        *,
        batch: int = 0,
        value: Literal["max", "mean", "sum"] = "max",
        queries: Range = None,
        keys: Range = None,
    ) -> np.ndarray:
        """A window of one slice as a grid, for pictures: float64 [rows, columns], queries down and keys across.

        Position p of the n in the window is in cell ``p * cells // n``. A cell is its heaviest edge (at least 0), the
        mean over the pairs that it covers (a pair that is no edge counts as 0) or the sum of its edges.

        Examples
        --------
        >>> import attngraph as ag
        >>> ag.from_matrix([[1.0, 0.0], [0.25, 0.75]], threshold=0.2).bins(shape=(1, 2)).tolist()
        [[1.0, 0.75]]
        """
        kinds = {"max": 0, "mean": 1, "sum": 2}
        _values.one_of(value, "value", *kinds)
        cells = _values.integers(shape, "shape")
        if len(cells) != 2:
            raise ArgumentError(f"shape is {shape!r}; it is (rows, columns)")
        place = self._place(layer, head, batch)
        s = self._slices[place]
        q, k = (0, 0), (0, 0)
        if queries is not None:
            q = _plot.window(queries, s.query_begin, s.query_begin + s.query_count, "queries")
        if keys is not None:
            k = _plot.window(keys, 0, s.key_count, "keys")
        return self._result.bins(place, *cells, kinds[value], *q, *k)

    # ------------------------------------------------------------------------------------------------------------
    # pictures for papers

    def plot(
        self,
        layer: int | None = None,
        head: int | None = None,
        *,
        batch: int = 0,
        kind: Literal["map", "arcs"] = "map",
        queries: Range = None,
        keys: Range = None,
        threshold: float = 0.0,
        value: Literal["max", "share"] = "max",
        size: float = 520,
    ) -> _picture.Picture:
        """One head as a picture: SVG in a notebook, and `save` writes .svg or .png.

        Parameters
        ----------
        layer, head, batch : which; without layer and head the first slice of the batch
        kind : "map" (queries down, keys across; with words and weights up to 96 of them) or "arcs" (from each query's
            word to its keys', at most 200 words)
        queries, keys : (begin, end), a part
        threshold : edges below it are left out
        value : of a cell that covers many pairs: its heaviest edge, or the share of its queries' attention
        size : width of the map in pixels

        Examples
        --------
        >>> import attngraph as ag
        >>> ag.from_matrix([[1.0, 0.0], [0.25, 0.75]], tokens=["a", "b"]).plot(kind="arcs")
        <attngraph.Picture: layer 0, head 0: arcs, 300 x 208>
        """
        layer, head = self._drawn(layer, head, batch)
        threshold, size = _values.number(threshold, "threshold"), _plot.size_of(size)
        if _values.one_of(kind, "kind", "map", "arcs") == "map":
            _values.one_of(value, "value", "max", "share")
            return _plot.plot_map(self, layer, head, batch, queries, keys, threshold, value, size)
        return _plot.plot_arcs(self, layer, head, batch, queries, keys, threshold, size)

    def plot_heads(
        self, layers: Iterable[int] | None = None, *, batch: int = 0, size: float = 56, columns: int | None = None
    ) -> _picture.Picture:
        """All heads as small maps, layers down and heads across (or `columns` in a row), as a picture.

        A cell is the share of its queries' attention that its keys get, so a sink is a stripe, and a head that looks at
        the token before is a diagonal.

        Examples
        --------
        >>> import attngraph as ag
        >>> ag.from_matrix([[1.0, 0.0], [0.25, 0.75]]).plot_heads()
        <attngraph.Picture: 1 heads, 112 x 88>
        """
        layers = _values.chosen(layers, "layers", sorted({s.layer for s in self._slices}))
        columns = None if columns is None else _values.positive(columns, "columns")
        return _plot.plot_heads(self, layers, _values.integer(batch, "batch"), _plot.size_of(size), columns)

    def chart(
        self,
        kind: Literal["heatmap", "arc", "bipartite"] = "heatmap",
        layer: int | None = None,
        head: int | None = None,
        *,
        batch: int = 0,
        max_edges: int = 4000,
    ) -> altair.Chart:
        """One head as an Altair chart of its heaviest edges, at most `max_edges`; the title says when some were cut.

        Examples
        --------
        >>> import attngraph as ag
        >>> g = ag.from_matrix([[1.0, 0.0], [0.25, 0.75]], threshold=0.2)
        >>> len(g.chart().to_dict()["data"]["values"])  # doctest: +NEEDS(altair)
        3
        """
        from ._chart import chart

        optional("altair", "chart")
        layer, head = self._drawn(layer, head, batch)
        return chart(self, kind, layer, head, batch, max_edges)

    def _drawn(self, layer, head, batch):
        """The layer and head to draw: those given, or the first of the batch."""
        if (layer is None) != (head is None):
            raise ArgumentError("give a layer and a head, or neither for the first slice")
        if layer is not None:
            return layer, head
        batch = _values.integer(batch, "batch")
        first = next((s for s in self._slices if s.batch == batch), None)
        if first is None:
            raise ArgumentError(f"the graph has no slice of batch {batch} to draw")
        return first.layer, first.head

    def _repr_html_(self) -> str:
        cell = lambda text, tag="td": (
            f'<{tag} style="text-align: left; padding: 1px 10px 1px 0">{escape(str(text))}</{tag}>'
        )
        facts = f"<p><b>attngraph.Graph</b>: {escape(self._shape_text())}, {len(self):,} edges, {self._mass_text()}</p>"
        parts = [facts]
        batches = sorted({s.batch for s in self._slices})
        drawn = [s for s in self._slices if s.batch == (batches or [0])[0] and s.query_count and s.key_count]
        if drawn:
            layers = sorted({s.layer for s in drawn})
            per_layer = max(sum(s.layer == layer for s in drawn) for layer in layers)
            shown = layers[: max(1, _REPR_HEADS // per_layer)]
            parts.append(self.plot_heads(shown, batch=batches[0], size=44).svg())
            if len(shown) < len(layers):
                parts.append(
                    f"<p>Layers {shown[0]} to {shown[-1]} of {len(layers)}; g.plot_heads() draws all of them.</p>"
                )
        links = self._links(6)
        if links:
            head = "".join(cell(name, "th") for name in ("layer", "head", "query", "key", "weight"))
            rows = "".join(
                f"<tr>{cell(e.layer)}{cell(e.head)}{cell(self._word(e, 'query'))}{cell(self._word(e, 'key'))}{cell(f'{e.weight:.3f}')}</tr>"
                for e in links
            )
            parts.append(
                f"<table><caption>Strongest links, neither to itself nor to the first</caption><tr>{head}</tr>{rows}</table>"
            )
        parts.append("<p><code>g.view()</code> opens the viewer.</p>")
        return f"<div>{''.join(parts)}</div>"

    def _word(self, edge, end):
        query, key = _plot.words_of(self, edge.batch)
        index = edge.query if end == "query" else edge.key
        word = query(index) if end == "query" else key(index)
        return str(index) if word is None else f"{_picture.label(word, 30)} ({index})"

    def _links(self, n):
        """The heaviest edges that go neither to the query's own position nor to the first key."""
        from .records import Edge

        found = []
        for place, s in enumerate(self._slices):
            indptr, indices, data = self._result.csr(place)
            wanted = indices != 0
            own = np.repeat(np.arange(s.query_begin, s.query_begin + s.query_count), np.diff(indptr))
            wanted &= indices != own + self._query_offset
            at = np.flatnonzero(wanted)
            if at.size > n:
                at = at[np.argpartition(-data[at], n - 1)[:n]]
            found += [Edge(*s[:3], int(own[e]), int(indices[e]), float(data[e])) for e in at]
        return sorted(found, key=lambda e: (-e.weight, e[:5]))[:n]
