# SPDX-License-Identifier: Apache-2.0
"""A graph that stays in the memory of a CUDA device."""

from __future__ import annotations

from typing import Any

from . import _values
from ._making import with_words
from .errors import ArgumentError
from .graph import Graph

_LEGACY_STREAM = 1  # DLPack's number for the default stream, and CUDA's handle for it
_CUDA = 2  # DLPack's number for the memory of a CUDA device


class DeviceArray:
    """One array of a `DeviceGraph`, for whoever reads DLPack: ``torch.from_dlpack(graph.data)``,
    ``cupy.from_dlpack(graph.data)``, ``jax.dlpack.from_dlpack(graph.data)``. Nothing is copied; the graph stays alive
    as long as what has been made of it. Do not write to it.

    Examples
    --------
    >>> import torch                                                       # doctest: +SKIP
    >>> torch.from_dlpack(graph.data).sum()                                # doctest: +SKIP
    """

    def __init__(self, graph: Any, array: Any, shape: tuple[int, ...]):
        self._graph, self._array, self.shape = graph, array, shape

    def __dlpack_device__(self) -> tuple[int, int]:
        return _CUDA, self._graph.device

    def __dlpack__(self, *, stream: int | None = None, **how: Any) -> Any:
        """A capsule whose memory is complete for what is queued on the reader's stream from now on; -1 asks for no such
        order."""
        if stream is None:
            stream = _LEGACY_STREAM
        if stream == 0:
            raise ArgumentError("stream is 0, which DLPack leaves open; 1 is the default stream, 2 that of the thread")
        if stream != -1:
            self._graph.wait(stream)
        return self._array.__dlpack__(**how)

    def __repr__(self) -> str:
        return f"<attngraph.DeviceArray of {self.shape[0]:,} on cuda:{self._graph.device}>"


class DeviceGraph:
    """What ``extract(..., out="device")`` returns: one CSR over the rows of all heads, on the device that made it.

    Row ``r`` is query ``r % queries`` of slice ``r // queries``; slices are the heads of the first sequence of the batch,
    then of the next. Its edges are ``indptr[r]:indptr[r + 1]``.

    Attributes
    ----------
    indptr : DeviceArray
        int64 [rows + 1].
    indices : DeviceArray
        int32 [edges]: keys, ascending within a row.
    data : DeviceArray
        float32 [edges]: weights.
    shape : (int, int)
        Rows and keys.
    slice_count, queries, keys, edge_count, device : int

    Examples
    --------
    >>> import attngraph as ag, torch                                      # doctest: +SKIP
    >>> graph = ag.extract(q.cuda(), k.cuda(), 0.05, out="device")         # doctest: +SKIP
    >>> torch.from_dlpack(graph.data).sum()                                # doctest: +SKIP
    """

    def __init__(self, native: Any, keys: int, tokens: Any = None, query_tokens: Any = None):
        self._native, self._words = native, (tokens, query_tokens)
        self.device, self.keys = native.device, keys
        self.slice_count, self.edge_count = native.slice_count, native.edge_count
        rows = native.row_count
        self.queries = rows // self.slice_count if self.slice_count else 0
        self.shape = rows, keys
        sizes = (rows + 1,), (self.edge_count,), (self.edge_count,)
        self.indptr, self.indices, self.data = (DeviceArray(native, a, s) for a, s in zip(native.arrays(), sizes))

    def to_torch(self) -> Any:
        """The graph as ``torch.sparse_csr`` [rows, keys]: keys and weights without a copy. PyTorch wants one type of
        integer for both, so that `indptr` becomes int32; beyond 2^31 edges keys become int64 instead."""
        import torch

        indptr, indices, data = (torch.from_dlpack(a) for a in (self.indptr, self.indices, self.data))
        if self.edge_count < 2**31:
            indptr = indptr.to(torch.int32)
        else:
            indices = indices.to(torch.int64)
        return torch.sparse_csr_tensor(indptr, indices, data, size=self.shape, check_invariants=False)

    def to_host(self) -> Graph:
        """A copy as `Graph`, with statistics of the rows, report and tokens, as ``out="host"`` would have made it."""
        return with_words(Graph(self._native.to_host()), *self._words)

    def wait(self, stream: Any = None) -> None:
        """Wait until the edges are complete; or let a stream do so: a number as DLPack has it, or PyTorch's or CuPy's
        object."""
        self._native.wait(0 if stream is None else stream_handle(stream))

    def __repr__(self) -> str:
        return (
            f"<attngraph.DeviceGraph on cuda:{self.device}: {self.slice_count} slices, {self.queries:,} queries x "
            f"{self.keys:,} keys, {self.edge_count:,} edges>"
        )


def stream_handle(stream: Any) -> int:
    """The handle of a CUDA stream: of an integer, PyTorch's ``cuda_stream``, CuPy's ``ptr``. The default stream, 0 there,
    is 1: 0 means none here."""
    for name in ("cuda_stream", "ptr"):
        stream = getattr(stream, name, stream)
    return _values.integer(stream, "stream", least=0) or _LEGACY_STREAM
