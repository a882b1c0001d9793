# SPDX-License-Identifier: Apache-2.0
"""Graphs of the passes over one sequence, put where they stand in the whole."""

from typing import NamedTuple

from . import _operations
from .graph import concat, from_slices
from .records import Csr, Slice


class Place(NamedTuple):
    """Where the queries and keys of a call stand in the whole sequence."""

    query_begin: int
    key_begin: int


def moved(graph, place):
    """The graph of one call with the positions of the whole sequence."""
    if place == (0, 0):
        return graph
    slices = []
    for s, csr, rows in _operations.parts(graph):
        keys = Csr(csr.indptr, csr.indices + place.key_begin, csr.data)
        rows = rows._replace(max_key=rows.max_key + place.key_begin * (rows.max_key >= 0))
        size = s._replace(query_begin=place.query_begin, key_count=place.key_begin + s.key_count)
        slices.append((Slice(*size), keys, rows))
    return from_slices(slices, metadata=graph.metadata)


def stitched(pieces, tokens=None):
    """One graph out of [(graph, Place)]. A single one that stands at the beginning stays what it is."""
    if len(pieces) == 1 and pieces[0][1] == (0, 0) and tokens is None:
        return pieces[0][0]
    return concat([moved(graph, place) for graph, place in pieces], tokens)
