# SPDX-License-Identifier: Apache-2.0
"""Graphs of the passes over one sequence, put where they stand in the whole."""

from typing import NamedTuple

from . import _operations
from .graph import from_slices
from .records import Csr


class Place(NamedTuple):
    """Where the queries and keys of a call stand in the whole sequence."""

    query_begin: int
    key_begin: int


def stitched(pieces, tokens=None, metadata=None, query_tokens=None):
    """One graph out of [(graph, Place)]: of each slice, the rows one after the other. Beside the pieces and the answer
    only one slice is held at a time.

    A single piece that stands at the beginning stays what it is, unless it gets tokens or facts.
    """
    first = pieces[0][0]
    if len(pieces) == 1 and pieces[0][1] == (0, 0) and tokens is None and query_tokens is None and metadata is None:
        return first
    rows = _operations.joined(part for graph, place in pieces for part in _moved(graph, place))
    return from_slices(rows, tokens, {**first.metadata, "query_offset": "0", **(metadata or {})}, query_tokens=query_tokens)


def _moved(graph, place):
    """The slices of one call with the positions of the whole sequence."""
    for s, csr, rows in _operations.parts(graph):
        if place.key_begin:
            csr = Csr(csr.indptr, csr.indices + place.key_begin, csr.data)
            rows = rows._replace(max_key=rows.max_key + place.key_begin * (rows.max_key >= 0))
        if place != (0, 0):
            s = s._replace(query_begin=place.query_begin, key_count=place.key_begin + s.key_count)
        yield s, csr, rows
