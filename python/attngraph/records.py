# SPDX-License-Identifier: Apache-2.0
"""The small answers that a graph gives, as named tuples."""

from typing import NamedTuple, Optional

import numpy as np

from .tables import Table


class Slice(NamedTuple):
    """One (batch, layer, head) of a graph: which queries it holds, of how many keys, with how many edges."""

    batch: int
    layer: int
    head: int
    query_begin: int
    query_count: int
    key_count: int
    edge_count: int


class Csr(NamedTuple):
    """One slice as CSR: row r is query ``query_begin + r`` and has the edges ``indptr[r]:indptr[r + 1]``."""

    indptr: np.ndarray  # int64 [query_count + 1]
    indices: np.ndarray  # int32 [edges], ascending within a row
    data: np.ndarray  # float32, or float64 when the matrix was


class Rows(NamedTuple):
    """Statistics of the rows of one slice, each array [query_count]."""

    logsumexp: np.ndarray  # natural logarithm; -inf for a row without keys
    maximum: np.ndarray  # largest score (of a matrix: weight)
    max_key: np.ndarray  # its key; -1 for a row without keys
    kept_mass: np.ndarray  # sum of the weights of the row's edges
    entropy: np.ndarray  # nats; NaN unless stats="entropy" was asked for


class Columns(NamedTuple):
    """Sums over the queries of one slice, from every weight, edge or not. Empty unless asked for."""

    received: np.ndarray  # attention received by every key
    distances: np.ndarray  # mass at distance distance_begin + d of query and key
    distance_begin: int


class Edge(NamedTuple):
    """One row of the table of edges."""

    batch: int
    layer: int
    head: int
    query: int
    key: int
    weight: float


class SweepRow(NamedTuple):
    """What a graph would be at one threshold."""

    threshold: float
    edges: int
    kept_mass: float  # mean over the rows that have keys
    nodes: int  # (slice, position) pairs that are an end of at least one edge


class Report(NamedTuple):
    """How a graph was made, over all calls that went into it. What is not known is None."""

    # Pairs with |ln(weight / threshold)| > eps were decided right; 0: all were.
    eps: Optional[float]
    borderline: Optional[int]  # pairs inside that band
    empty_rows: int  # rows without an allowed key
    rows_fp64: int  # rows computed in double because single could not hold the band
    skipped_nonfinite: int  # left out under nonfinite="skip"
    kept_mass: float  # mean over the rows that have keys
    backend: str  # all that answered, "cpu, cuda_streaming"; "" when not known
    target: str  # instruction set or device
    threads: int
    rows_decided_again: int = 0  # decision="certified": rows with pairs that were decided again
    unresolved: int = 0  # decision="certified": pairs that even the longest arithmetic could not tell


def together(reports):
    """The report of rows that were taken out of several graphs: how they were decided, not what they hold."""
    reports = list(reports)
    known = all(r.eps is not None for r in reports)
    return reports[0]._replace(
        eps=max(r.eps for r in reports) if known else None,
        borderline=sum(r.borderline for r in reports) if known else None,
        rows_fp64=sum(r.rows_fp64 for r in reports),
        skipped_nonfinite=sum(r.skipped_nonfinite for r in reports),
        rows_decided_again=sum(r.rows_decided_again for r in reports),
        unresolved=sum(r.unresolved for r in reports),
        backend=", ".join(dict.fromkeys(name for r in reports for name in r.backend.split(", ") if name)),
    )


class Summary(NamedTuple):
    """Figures of one slice or of a whole graph."""

    rows: int
    edges: int
    empty_rows: int  # rows without an allowed key
    rows_without_edges: int  # rows that have keys, but no edge
    max_row_edges: int
    mean_row_edges: float
    kept_mass_mean: float
    kept_mass_min: float
    weight_min: float  # NaN without edges
    weight_max: float
    entropy_mean: float  # NaN unless asked for
    mean_distance: float  # of query - key over edges, weighted; NaN, as the next two, between two sequences
    self_share: float  # share of edge weight on key == query,
    previous_share: float  # on key == query - 1,
    first_share: float  # on key == 0


class Coverage(NamedTuple):
    """Probability mass that the edges of one slice hold, over its rows."""

    batch: int
    layer: int
    head: int
    rows: int  # rows that have keys
    mean: float
    median: float
    minimum: float
    lowest_query: int  # where the minimum is; -1 without rows


class Difference(NamedTuple):
    """What sets two graphs apart. Truth value: whether anything does."""

    edges_a: int
    edges_b: int
    only_a: int  # edges outside the band in one graph only
    only_b: int
    inside_band: int  # edges in one graph only, but within the band of the threshold
    common: int
    max_weight_difference: float  # relative, over common edges
    slices_only_a: int
    slices_only_b: int
    first: Optional[Edge]  # the first edge that differs
    first_in_a: bool

    def __bool__(self) -> bool:
        return self.only_a + self.only_b + self.slices_only_a + self.slices_only_b > 0


class Flow(NamedTuple):
    """The most that passes from a position to another, and a way of carrying it."""

    value: float
    edges: Table  # layer, query, key, flow: the edges that carry something


class Backend(NamedTuple):
    """A way of doing the work."""

    name: str
    unavailable: Optional[str]  # why not; None when it works here
    device: str  # what this machine is to it
