# SPDX-License-Identifier: Apache-2.0
"""Attention as a graph: edges query -> key out of queries and keys, or out of ready attention matrices.

``extract`` takes Q and K and never stores the N x N matrix; ``from_matrix`` takes a matrix that is there already; both
return a `Graph`. Attention weights say where a head looked, not why a model answered as it did.
"""

from . import _native, compat, dataset, errors, llama_cpp, ray, toy, transformers, vllm_hook
from ._attention_graph import attention_graph
from ._bertviz import head_view, model_view
from ._cache import CacheLoss, cache_loss
from ._contexts import release_memory
from ._extract import extract, from_matrix
from ._imports import from_arrow, from_networkx, from_pandas
from ._making import concat, from_slices, load
from ._options import alibi_slopes
from ._picture import Picture
from ._session import Session
from ._shards import extract_sharded
from ._tasks import Task, plan
from ._token_texts import token_texts
from ._views import Page
from .dataset import Dataset
from .dataset import open as open  # noqa: A004
from .device_graph import DeviceArray, DeviceGraph
from .edges import Edges
from .errors import Error
from .graph import Graph
from .records import Backend, Columns, Coverage, Csr, Difference, Edge, Flow, Report, Rows, Slice, Summary, SweepRow
from .tables import Table

__version__ = _native.version()

__all__ = [
    "Backend",
    "CacheLoss",
    "Columns",
    "Coverage",
    "Csr",
    "Dataset",
    "DeviceArray",
    "DeviceGraph",
    "Difference",
    "Edge",
    "Edges",
    "Error",
    "Flow",
    "Graph",
    "Page",
    "Picture",
    "Report",
    "Rows",
    "Session",
    "Slice",
    "Summary",
    "SweepRow",
    "Table",
    "Task",
    "alibi_slopes",
    "attention_graph",
    "backends",
    "cache_loss",
    "compat",
    "concat",
    "dataset",
    "errors",
    "extract",
    "extract_sharded",
    "from_arrow",
    "from_matrix",
    "from_networkx",
    "from_pandas",
    "from_slices",
    "head_view",
    "llama_cpp",
    "load",
    "model_view",
    "open",
    "plan",
    "ray",
    "release_memory",
    "token_texts",
    "toy",
    "transformers",
    "vllm_hook",
]


def backends() -> "list[Backend]":
    """The ways of doing the work that this library knows, available here or not: a list of `Backend`.

    Examples
    --------
    >>> import attngraph as ag
    >>> [b.name for b in ag.backends()][:2]
    ['reference', 'cpu']
    """
    return [Backend(*backend) for backend in _native.backends()]
