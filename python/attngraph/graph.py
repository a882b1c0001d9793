# SPDX-License-Identifier: Apache-2.0
"""The graph."""

import numpy as np

from . import _native
from .errors import NotFoundError, UnsupportedError
from .records import Columns, Csr, Report, Rows, Slice


class Graph:
    def __init__(self, result):
        self._result = result
        self._slices = [Slice(*row) for row in result.slices().tolist()]
        self._places = {}
        for place, s in enumerate(self._slices):
            self._places.setdefault(s[:3], []).append(place)

    def __len__(self):
        return self._result.edge_count()

    @property
    def slices(self):
        return list(self._slices)

    def _place(self, layer, head, batch):
        places = self._places.get((batch, layer, head))
        if places is None:
            raise NotFoundError(f"there is no slice of batch {batch}, layer {layer}, head {head}")
        if len(places) > 1:
            raise UnsupportedError(f"batch {batch}, layer {layer}, head {head} is in {len(places)} query ranges")
        return places[0]

    def csr(self, layer=0, head=0, batch=0):
        return Csr(*self._result.csr(self._place(layer, head, batch)))

    def rows(self, layer=0, head=0, batch=0):
        return Rows(*self._result.rows(self._place(layer, head, batch)))

    def to_scipy(self, layer=0, head=0, batch=0):
        from scipy.sparse import csr_array
        s = self._slices[self._place(layer, head, batch)]
        indptr, indices, data = self.csr(layer, head, batch)
        return csr_array((data, indices, indptr), shape=(s.query_count, s.key_count))
