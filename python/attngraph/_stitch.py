# SPDX-License-Identifier: Apache-2.0
"""Graphs of the passes over one sequence, put where they stand in the whole."""

from typing import NamedTuple

from . import _native
from ._making import with_words
from .graph import Graph


class Place(NamedTuple):
    """Where the queries and keys of a call stand in the whole sequence."""

    query_begin: int
    key_begin: int


def stitched(pieces, tokens=None, metadata=None, query_tokens=None):
    """One graph out of [(graph, Place)]: of each slice, the rows one after the other; reports and sums add up.

    A single piece that stands at the beginning stays what it is, unless it gets tokens or facts.
    """
    if len(pieces) == 1 and pieces[0][1] == (0, 0) and tokens is None and query_tokens is None and metadata is None:
        return pieces[0][0]
    whole = _native.Result.join(
        [graph._result for graph, _ in pieces],
        [place.query_begin for _, place in pieces],
        [place.key_begin for _, place in pieces],
        None,
        {"query_offset": "0", **(metadata or {})},
    )
    return with_words(Graph(whole), tokens, query_tokens)
