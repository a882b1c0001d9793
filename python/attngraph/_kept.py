# SPDX-License-Identifier: Apache-2.0
"""The keys of one layer of a live model, kept while it decodes.

The model hands over all keys anew in every step. Those that are, bit for bit, the ones of the step before are not packed
again; where they differ (beams changed places, a draft guessed wrong, another cache) all is made anew from there on. So
nothing is taken on trust, and keys of two sequences never mix.
"""

from __future__ import annotations

from . import _native
from ._inputs import tensor
from ._streams import Print, print_of


class KeptLayer:
    def __init__(self, context, skip_nonfinite):
        self._context = context
        self._skip = skip_nonfinite
        self._session = None
        self._kind = None  # shape without positions, and type
        self._prints = None  # [B, room, 16], of the first _count keys
        self._count = 0
        self._chain = object()  # another one whenever keys were given up

    def rows(self, query, key, options, sink):
        """Edges of the queries [B, Hq, n, D] among all keys [B, Hkv, N, D] into a sink; and the Print of the keys."""
        kind = (key.shape[0], key.shape[1], key.shape[3], key.dtype)
        if kind != self._kind:
            self._session, self._kind, self._count = _native.Session(self._context, 0, 0, self._skip), kind, 0
            self._prints, self._chain = None, object()
        same = self._session.common(tensor(key, "key"))
        if same < self._session.describe()[0]:
            self._session.truncate(same)
            self._chain = object()
        self._session.append(tensor(key[:, :, same:], "key"))
        self._print(key, min(same, self._count))
        self._session.rows(tensor(query, "query"), options, sink)
        return Print(self._prints[:, : self._count], 0, self._chain)

    def _print(self, key, same):
        new, count = print_of(key[:, :, same:]), key.shape[2]
        # Earlier passes look at what was written before: a chain only ever adds behind it.
        if self._prints is None or count > self._prints.shape[1] or same < self._count:
            room = new.new_empty((new.shape[0], count + count // 2 + 64, new.shape[2]))
            if same:
                room[:, :same] = self._prints[:, :same]
            self._prints = room
        self._prints[:, same:count] = new
        self._count = count
