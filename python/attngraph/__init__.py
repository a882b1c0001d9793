# SPDX-License-Identifier: Apache-2.0
"""Attention as a graph: edges query -> key out of queries and keys, or out of ready attention matrices."""

from . import _native, errors
from ._extract import extract, from_matrix
from .errors import Error
from .graph import Graph

__version__ = _native.version()
__all__ = ["Error", "Graph", "errors", "extract", "from_matrix"]
