# SPDX-License-Identifier: Apache-2.0
"""Small tables that answer questions: columns of numbers, one row for every head, pair or query."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _values
from ._optional import optional
from .errors import ColumnNotFoundError

if TYPE_CHECKING:
    import pandas

_SHOWN = 20


class Table:
    """Columns of equal length, each a NumPy array: ``table["head"]``.

    The whole is an Arrow stream too, so that pyarrow, polars and DuckDB read it as it is. What is not known is NaN.

    Examples
    --------
    >>> import attngraph as ag
    >>> table = ag.from_matrix([[1.0, 0.0], [0.25, 0.75]], stats="heads").heads()
    >>> len(table), table["self_share"]
    (1, array([0.875]))
    """

    def __init__(self, columns: dict[str, np.ndarray]):
        self._columns = {name: np.asarray(values) for name, values in columns.items()}

    def __len__(self) -> int:
        return len(next(iter(self._columns.values()))) if self._columns else 0

    def __bool__(self) -> bool:
        return True

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return list(self._columns)

    def __getitem__(self, name: str) -> np.ndarray:
        if not isinstance(name, str) or name not in self._columns:
            raise ColumnNotFoundError(f"there is no column {name!r}; there are {', '.join(self._columns)}")
        return self._columns[name]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The rows, as dictionaries."""
        lists = {name: values.tolist() for name, values in self._columns.items()}
        return ({name: values[row] for name, values in lists.items()} for row in range(len(self)))

    def sort(self, by: str, ascending: bool = False) -> Table:
        """The rows in order of a column, the largest first; rows where it is not known come last.

        Examples
        --------
        >>> import attngraph as ag
        >>> g = ag.from_matrix([[[1.0, 0.0], [0.5, 0.5]], [[1.0, 0.0], [0.1, 0.9]]], stats="heads")
        >>> g.heads().sort("self_share")["head"].tolist()
        [1, 0]
        """
        values = self[by]
        order = np.argsort(values if _values.flag(ascending, "ascending") else -values.astype(np.float64), kind="stable")
        return Table({name: column[order] for name, column in self._columns.items()})

    def head(self, n: int = 5) -> Table:
        """The first n rows."""
        n = _values.integer(n, "n", least=0)
        return Table({name: column[:n] for name, column in self._columns.items()})

    def to_dict(self) -> dict[str, np.ndarray]:
        """All columns as NumPy arrays, by name."""
        return dict(self._columns)

    def to_pandas(self) -> pandas.DataFrame:
        """The table as a pandas DataFrame. Take columns as ``frame["head"]``: ``frame.head`` is a method of pandas.

        Examples
        --------
        >>> import attngraph as ag
        >>> table = ag.from_matrix([[1.0, 0.0], [0.25, 0.75]], stats="heads").heads()
        >>> table.to_pandas()["first_share"].tolist()  # doctest: +NEEDS(pandas)
        [0.625]
        """
        return optional("pandas", "to_pandas").DataFrame(self._columns)

    def __arrow_c_schema__(self):
        return self._arrow()[0].__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema=None):
        import nanoarrow as na

        schema, columns = self._arrow()
        children = [
            na.c_array_from_buffers(field, len(self), [None, values], null_count=0)
            if values.dtype.kind in "if"
            else na.c_array([str(value) for value in values], na.large_string())
            for values, field in zip(columns, schema.fields)
        ]
        batch = na.c_array_from_buffers(schema, len(self), [None], null_count=0, children=children)
        return na.c_array_stream(batch).__arrow_c_stream__(requested_schema)

    def _arrow(self):
        import nanoarrow as na

        types = {"i": na.int64(), "f": na.float64()}
        columns = [
            np.ascontiguousarray(values, {"i": np.int64, "f": np.float64}[values.dtype.kind])
            if values.dtype.kind in "if"
            else values
            for values in self._columns.values()
        ]
        fields = {name: types.get(values.dtype.kind, na.large_string()) for name, values in zip(self.columns, columns)}
        return na.struct(fields, nullable=False), columns

    def __repr__(self) -> str:
        cells = [self.columns, *([_text(value) for value in row.values()] for row in self.head(_SHOWN))]
        widths = [max(map(len, column)) for column in zip(*cells)]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths)) for row in cells]
        if len(self) > _SHOWN:
            lines.append(f"... {len(self):,} rows")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        from html import escape

        head = "".join(f"<th>{escape(name)}</th>" for name in self.columns)
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(_text(value))}</td>" for value in row.values()) + "</tr>"
            for row in self.head(_SHOWN)
        )
        more = f"<p>{len(self):,} rows</p>" if len(self) > _SHOWN else ""
        return f"<table><tr>{head}</tr>{body}</table>{more}"


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
