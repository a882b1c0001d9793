# SPDX-License-Identifier: Apache-2.0
"""Keys that come piece by piece: the rows of a decoding step without a look at how the keys before it are packed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

from . import _native, _values
from ._extract import _collector, _heads_of, _label_all, _laid_out
from ._labels import Labels, require_one_each
from ._options import Options
from .errors import ArgumentError
from .graph import Graph


class Session:
    """Keys that are kept, and packed once, while a model decodes; rows among them cost one look at every key.

    What `rows` answers equals, bit for bit, the same rows of one `extract` with all queries and keys, so ``concat`` of the
    steps is the whole graph; column sums and distances alone are rounded in another order. The CPU works on the packed
    keys; a CUDA backend, asked for by `device` or `backend`, reads the kept keys anew in every call.

    Memory, of N keys in B x Hkv heads of D numbers: the keys as given, with room for half as many more, and one packed copy
    in whole strips of 512 keys: 4 D bytes a key and head (8 D for float64, 6 D for float32 where AMX is used, 2 D for
    bfloat16, and for float16 where the processor widens it and AMX is not used), in blocks of 2 MiB where there is more
    than that of a head. A `window` bounds N.

    Parameters
    ----------
    threshold, scale, causal, softcap, alibi, sinks, top_k, mass, allow_dense, layer, heads, layout, device, backend, threads, \
    decision, products, stats, nonfinite, max_edges : optional
        As in `attngraph.extract`, for all rows.
    window : int, optional
        Sliding window: only keys nearer than this; those farther behind the end are dropped, a strip at a time, unless
        `decision` is "certified", which needs them.
    capacity : int, optional
        Make room for so many keys at once.

    Examples
    --------
    >>> import numpy as np, attngraph as ag
    >>> rng = np.random.default_rng(0)
    >>> q, k = rng.standard_normal((2, 4, 100, 64)).astype(np.float32)
    >>> with ag.Session(threshold=0.05) as session:
    ...     steps = []
    ...     for begin, end in [(0, 90), (90, 91), (91, 100)]:
    ...         _ = session.append(k[:, begin:end])
    ...         steps.append(session.rows(q[:, begin:end]))
    >>> bool(ag.concat(steps).diff(ag.extract(q, k, threshold=0.05)))
    False
    """

    def __init__(
        self,
        threshold: float = 0.05,
        *,
        scale: float | None = None,
        causal: bool = True,
        window: int | None = None,
        softcap: float | None = None,
        alibi: Any = None,
        sinks: Any = None,
        top_k: int | None = None,
        mass: float | None = None,
        allow_dense: bool = False,
        layer: int = 0,
        heads: Any = None,
        layout: Literal["bhsd", "bshd"] = "bhsd",
        device: str = "auto",
        backend: str | None = None,
        threads: int | None = None,
        decision: Literal["fast", "certified"] = "fast",
        products: Literal["auto", "float"] = "auto",
        stats: str | Sequence[str] = (),
        nonfinite: Literal["error", "skip"] = "error",
        max_edges: int | None = None,
        capacity: int | None = None,
    ) -> None:
        self._layout = _values.one_of(layout, "layout", "bhsd", "bshd")
        self._how = Options(
            threshold=threshold, causal=causal, top_k=top_k, mass=mass, backend=backend, threads=threads, stats=_values.kept(stats),
            nonfinite=nonfinite, max_edges=max_edges, window=window, heads=_values.kept(heads), scale=scale, softcap=softcap,
            layer=_values.integer(layer, "layer", least=0), alibi=alibi, sinks=sinks, allow_dense=allow_dense, decision=decision,
            products=products,
        )  # fmt: skip
        self._how.native()  # wrong values are told here
        self._own = _native.Session(
            _native.Context(_values.device(device)),
            # Certified decisions look at all keys again: then none is dropped.
            0 if window is None or decision == "certified" else _values.positive(window, "window"),
            0 if capacity is None else _values.positive(capacity, "capacity"),
            nonfinite == "skip",
        )

    def append(self, k: Any) -> Session:
        """Add keys [B, Hkv, n, D], [Hkv, n, D] or [n, D], which are copied. The first ones say B, Hkv, D and the type of all.

        Raises
        ------
        Error
            For keys of another kind, NaN and infinity, more memory than there is: the session is then as it was.
        """
        self._opened().append(_laid_out(k, "k", self._layout))
        return self

    def rows(
        self,
        q: Any,
        *,
        position: int | None = None,
        mask: Any = None,
        key_lengths: Sequence[int] | None = None,
        lse: Any = None,
        lse_base: Literal["e", "2"] = "e",
        token_ids: Any = None,
        word_ids: Any = None,
        tokens: Labels | None = None,
    ) -> Graph:
        """The graph of queries [B, Hq, n, D] among the keys so far.

        Parameters
        ----------
        position : int, optional
            Where the first query stands among the keys; unless given, the last query stands at the last key.
        mask, key_lengths, lse, lse_base, token_ids, word_ids, tokens : optional
            As in `attngraph.extract`, for these queries and the keys so far.
        """
        own, q = self._opened(), _laid_out(q, "q", self._layout)
        sink, words = _collector(tokens, None)
        how = dataclasses.replace(
            self._how, query_offset=position, mask=mask, key_lengths=key_lengths, lse=lse, lse_base=lse_base,
            token_ids=token_ids, word_ids=word_ids,
        )  # fmt: skip
        own.rows(q, how.native(_heads_of(q), _label_all(tokens)), sink)
        return require_one_each(words, Graph(sink.take_result()))

    def common(self, k: Any) -> int:
        """How many of the first keys of `k` are, bit for bit, those of the session: how a caller who is given all keys anew
        finds the new ones, with ``truncate`` before ``append``."""
        return self._opened().common(_laid_out(k, "k", self._layout))

    def truncate(self, count: int) -> Session:
        """Forget the keys from `count` on: a draft guessed wrong."""
        self._opened().truncate(_values.integer(count, "count"))
        return self

    def close(self) -> None:
        """Give the keys back; a closed session answers nothing more."""
        self._own = None

    def __enter__(self) -> Session:
        self._opened()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __len__(self) -> int:
        """Keys appended so far."""
        return self._opened().describe()[0]

    @property
    def first_key(self) -> int:
        """Keys before it were dropped, which a window allows."""
        return self._opened().describe()[1]

    @property
    def nbytes(self) -> int:
        """Bytes held for keys."""
        return self._opened().describe()[2]

    @property
    def packed_bytes(self) -> int:
        """Bytes written in packed form since the session began; a step adds those of its own keys' panels."""
        return self._opened().describe()[3]

    def __repr__(self) -> str:
        if self._own is None:
            return "<attngraph.Session: closed>"
        return f"<attngraph.Session: {len(self):,} keys, {self.nbytes / 2**20:,.1f} MiB>"

    def _opened(self):
        if self._own is None:
            raise ArgumentError("the session is closed; begin a new one")
        return self._own
