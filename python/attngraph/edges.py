# SPDX-License-Identifier: Apache-2.0
"""The table of edges, for everything that reads columns."""

from __future__ import annotations

import numpy as np

from .errors import ColumnNotFoundError

_INDICES = ("batch", "layer", "head", "query", "key")
_TOKENS = ("query_token", "key_token")


class Edges:
    """All edges of a graph as columns, in the order (batch, layer, head, query, key).

    ``edges["weight"]`` is a NumPy array; the whole is an Arrow stream, so that ``pyarrow.table(edges)``,
    ``polars.DataFrame(edges)`` and DuckDB read it as it is. key and weight are the graph's own memory; the other
    columns are made when asked for, and kept.

    Examples
    --------
    >>> import attngraph as ag
    >>> edges = ag.from_matrix([[1.0, 0.0], [0.25, 0.75]], threshold=0.5).edges
    >>> edges.columns
    ['batch', 'layer', 'head', 'query', 'key', 'weight']
    >>> edges["weight"]
    array([1.  , 0.75])
    """

    def __init__(self, graph):
        self._graph = graph
        self._made = {}

    def __len__(self) -> int:
        return len(self._graph)

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return [*_INDICES, "weight", *(_TOKENS if self._graph._words.there else ())]

    def __getitem__(self, name: str) -> np.ndarray:
        if not isinstance(name, str) or name not in self.columns:
            raise ColumnNotFoundError(f"there is no column {name!r}; there are {', '.join(self.columns)}")
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def to_dict(self) -> dict[str, np.ndarray]:
        """All columns as NumPy arrays, by name."""
        return {name: self[name] for name in self.columns}

    def _make(self, name):
        graph = self._graph
        if name in ("key", "weight"):
            flat = graph._result.flat()
            if flat is None:
                flat = tuple(
                    np.concatenate([graph._result.csr(place)[field] for place in range(len(graph._slices))])
                    if graph._slices
                    else np.empty(0, dtype)
                    for field, dtype in ((1, np.int32), (2, np.float32))
                )
            self._made["key"], self._made["weight"] = flat
            return self._made[name]
        if name in ("batch", "layer", "head"):
            field = _INDICES.index(name)
            labels = np.array([s[field] for s in graph._slices], dtype=np.int32)
            return np.repeat(labels, [s.edge_count for s in graph._slices])
        if name == "query":
            ends = max((s.query_begin + s.query_count for s in graph._slices), default=0)
            dtype = np.int32 if ends <= np.iinfo(np.int32).max else np.int64
            made = [
                np.repeat(
                    np.arange(s.query_begin, s.query_begin + s.query_count, dtype=dtype),
                    np.diff(graph._result.csr(place)[0]),
                )
                for place, s in enumerate(graph._slices)
            ]
            return np.concatenate(made) if made else np.empty(0, dtype)
        return np.array(graph._words.texts, dtype=object)[self._word_places(name)]

    def _word_places(self, name):
        """Where the words of the column query_token or key_token stand among those of the graph."""
        end = name.removesuffix("_token")
        return self._graph._words.places(end, self["batch"], self[end])

    def _positions(self, name):
        """Where the ends stand that the column query_token or key_token labels."""
        return self["key"] if name == "key_token" else self["query"] + self._graph._query_offset

    def __repr__(self):
        lines = [f"attngraph.Edges, {len(self):,} rows", "  ".join(f"{name:>11}" for name in self.columns)]
        lines += ["  ".join(f"{cell:>11}" for cell in row) for row in self._head()]
        if len(self) > 10:
            lines.append("...")
        return "\n".join(lines)

    def _repr_html_(self):
        from html import escape

        head = "".join(f"<th>{name}</th>" for name in self.columns)
        body = "".join("<tr>" + "".join(f"<td>{escape(c)}</td>" for c in row) + "</tr>" for row in self._head())
        return f"<p>{len(self):,} edges</p><table><tr>{head}</tr>{body}</table>"

    def _head(self):
        """The first ten rows as texts, without making whole columns."""
        words, left = self._graph._words, 10
        for place, s in enumerate(self._graph._slices):
            indptr, indices, data = self._graph._result.csr(place)
            for e in range(min(left, len(indices))):
                left -= 1
                query, key = s.query_begin + int(np.searchsorted(indptr, e, "right")) - 1, int(indices[e])
                cells = [*map(str, s[:3]), str(query), str(key), f"{data[e]:.6g}"]
                ends = [repr(words.text("query", s.batch, query)), repr(words.text("key", s.batch, key))]
                yield cells + (ends if words.there else [])
            if left == 0:
                return

    # ------------------------------------------------------------------------------------------------------------
    # Arrow

    def _arrow_schema(self):
        import nanoarrow as na

        fields = {}
        for name in self.columns:
            if name in _TOKENS:
                fields[name] = na.large_string()
            elif name == "weight":
                fields[name] = na.float64() if self["weight"].dtype == np.float64 else na.float32()
            else:
                fields[name] = na.int64() if self[name].dtype == np.int64 else na.int32()
        return na.struct(fields, nullable=False)

    def __arrow_c_schema__(self):
        return self._arrow_schema().__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema=None):
        import nanoarrow as na

        schema = self._arrow_schema()
        children = [
            _strings(self._graph._words.plain, self._word_places(name))
            if name in _TOKENS
            else na.c_array_from_buffers(field, len(self), [None, self[name]], null_count=0)
            for name, field in zip(self.columns, schema.fields)
        ]
        batch = na.c_array_from_buffers(schema, len(self), [None], null_count=0, children=children)
        stream = na.c_array_stream(batch)
        return stream.__arrow_c_stream__(requested_schema)


def _strings(words, places):
    """One text per place."""
    import nanoarrow as na

    texts = [word.encode("utf-8") for word in words]
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths[places])])
    data = b"".join([texts[place] for place in places.tolist()])
    return na.c_array_from_buffers(na.large_string(), len(places), [None, offsets, data], null_count=0)
