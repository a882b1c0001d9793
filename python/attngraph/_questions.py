# SPDX-License-Identifier: Apache-2.0
"""What researchers ask a graph, one method each. The work is done by the library."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from . import _native, _values
from ._labels import token_bytes
from .errors import ArgumentError, NotFoundError, ShapeError
from .tables import Table

if TYPE_CHECKING:
    from ._cache import CacheLoss
    from .graph import Graph

# Which statistic each column of the table of heads is made from.
_NEEDS = {
    "entropy": ["entropy"],
    "distances": ["self_share", "previous_share", "window_share", "mean_distance"],
    "columns": ["first_share", "heaviest_key", "heaviest_share", "punctuation_share"],
    "tokens": ["induction_share", "duplicate_share", "same_word_share"],
}


class Questions:
    """The questions of `Graph` about all attention, beyond its edges."""

    def heads(self, *, window: int = 16, partial: bool = False) -> Table:
        """The table of heads: one row per (batch, layer, head), in figures of all its attention, not of its edges.

        Made from what ``stats="heads"`` has summed while the graph was made; nothing is estimated from edges.

        Parameters
        ----------
        window : int
            Keys nearer than this count as `window_share`.
        partial : bool
            Leave columns out for which the graph has no statistics, instead of raising.

        Returns
        -------
        Table
            queries (that have keys), edges, kept_mass and entropy (means over those queries; nats); shares of all
            attention on the query's own position (self_share), the position before it (previous_share), keys nearer
            than the window (window_share), key 0 (first_share) and the key that receives most (heaviest_key,
            heaviest_share); mean_distance of query and key. With tokens: punctuation_share; and when token ids or
            tokens were known to the call that made the graph: attention on the key after an earlier copy of the
            query's token (induction_share), on its other copies (duplicate_share), on other tokens of the same word
            (same_word_share). A share is mass over queries; of a ready matrix, mass over the sum of its weights.

        Raises
        ------
        NotFoundError
            When the graph has no such statistics: the message names the call that would have made them.

        Examples
        --------
        >>> import attngraph as ag
        >>> table = ag.from_matrix([[1.0, 0.0], [0.25, 0.75]], stats="heads").heads()
        >>> table["first_share"].tolist(), table["mean_distance"].tolist()
        ([0.625], [0.125])
        """
        columns = self._result.heads(_values.positive(window, "window"))
        apart = self._result.two_sided()  # between two sequences there is no distance
        missing = [
            stat
            for stat in ("entropy", "columns", *(() if apart else ("distances",)))
            if columns["queries"].any() and not _known(columns[_NEEDS[stat][0]]).any()
        ]
        if missing and not partial:
            raise NotFoundError(
                f"the graph has no sums of {', '.join(missing)} over all attention; make it with stats=\"heads\" (extract, "
                'from_matrix, capture), or ask for heads(partial=True), what is known'
            )
        unknown = {name for stat in missing + ["distances"] * apart for name in _NEEDS[stat]}
        for name in [*_NEEDS["tokens"], "punctuation_share"]:
            if not _known(columns[name]).any():
                unknown.add(name)
        return Table({name: values for name, values in columns.items() if name not in unknown})

    def group(
        self,
        spans: Iterable[tuple[int, int]] | None = None,
        *,
        word_ids: Iterable[int | None] | None = None,
        offsets: Iterable[tuple[int, int]] | None = None,
        labels: Iterable[str | bytes] | None = None,
        rest: Literal["error", "drop", "own"] | None = None,
    ) -> Graph:
        """The graph between words, sentences or other spans of tokens, which become its positions.

        The weight of span -> span is the sum over the keys of the one and the mean over the queries of the other
        (Clark et al. 2019), exact for what was kept. ``1 - rows().kept_mass`` is the mass that was not kept: below the
        threshold, or on tokens left out.

        Parameters
        ----------
        spans : sequence of (begin, end), optional
            Token positions, in order and apart from each other. Without any of the next two: the words that the texts
            of the tokens show, see `words`.
        word_ids : sequence of int or None, optional
            The word of every token, as ``encoding.word_ids()`` of a tokenizer has it: runs of one number are a span,
            None is in no word.
        offsets : sequence of (begin, end), optional
            Where every token stands in the text, as a tokenizer's ``offset_mapping`` has it: tokens that touch are one
            word; an empty one, as special tokens have, is in no word.
        labels : sequence of str, optional
            One for every span; unless given, the tokens of the span.
        rest : {"error", "drop", "own"}, optional
            Tokens in no span: an error (unless given, for `spans`), left out, or a span of their own (unless given, for
            words).

        Examples
        --------
        >>> import attngraph as ag
        >>> g = ag.from_matrix([[1, 0, 0], [0.5, 0.5, 0], [0.25, 0.25, 0.5]], threshold=0, tokens=["un", "do", " it"])
        >>> words = g.group()
        >>> words.tokens, words.to_scipy().toarray().tolist()  # doctest: +NEEDS(scipy)
        (['undo', ' it'], [[1.0, 0.0], [0.5, 0.5]])
        """
        if sum(given is not None for given in (spans, word_ids, offsets)) > 1:
            raise ArgumentError("spans, word_ids and offsets say the same thing in three ways; give one of them")
        if spans is not None:
            begins, ends = _span_ends(spans)
        else:
            words = word_ids if word_ids is not None else _words_at(offsets) if offsets is not None else self.words()
            begins, ends = _runs(words, self._positions())
        rests = ("error", "drop", "own")
        rest = ("error" if spans is not None else "own") if rest is None else _values.one_of(rest, "rest", *rests)
        texts = None if labels is None else token_bytes(labels)
        if texts is not None and len(texts) != len(begins):
            raise ShapeError(f"there are {len(texts)} labels for {len(begins)} spans")
        return type(self)(self._result.group(begins, ends, rests.index(rest), texts))

    def align(self, other: Graph) -> np.ndarray:
        """Where every position of this graph is in another: the longest alignment of equal tokens, in order; -1 for a
        token that the other has not.

        Examples
        --------
        >>> import attngraph as ag
        >>> import numpy as np
        >>> a, b = (ag.from_matrix(np.eye(3), tokens=list(t)) for t in ("abc", "acd"))
        >>> a.align(b).tolist()
        [0, -1, 1]
        """
        return self._result.align(_other(other))

    def diff_heads(self, other: Graph, *, align: str | Iterable[int | None] | None = None) -> Table:
        """How far every head is from itself in another graph, which holds the same (batch, layer, head).

        Only kept weights are known, so bounds say where the figures of all attention lie; they meet where everything
        was kept.

        Parameters
        ----------
        other : Graph
            Of softmax weights, as this one.
        align : {"tokens"} or sequence of int, optional
            When the prompts differ: by equal tokens, see `align`, or the position in the other graph of every position
            here, None or -1 for none. Queries without a counterpart are left out; attention on keys without one has
            left. Unless given, positions are the same.

        Returns
        -------
        Table
            queries compared; edges_a, edges_b, common; kept_a, kept_b (mean mass); variation_min, variation_max (total
            variation, 0 to 1) and divergence_min, divergence_max (Jensen-Shannon, nats), means over the queries.

        Examples
        --------
        >>> import attngraph as ag
        >>> a, b = (ag.from_matrix(m, threshold=0) for m in ([[1, 0], [0.25, 0.75]], [[1, 0], [0.5, 0.5]]))
        >>> table = a.diff_heads(b)
        >>> table["variation_min"].tolist(), table["variation_max"].tolist()
        ([0.125], [0.125])
        """
        return Table(self._result.diff_heads(_other(other), _alignment(self, other, align)))

    def diff_pairs(self, other: Graph, n: int = 20, *, align: str | Iterable[int | None] | None = None) -> Table:
        """The n pairs of query and key whose weight moved most from this graph to another.

        Returns
        -------
        Table
            batch, layer, head; query, key here and query_b, key_b there (-1: the position is in one graph only);
            before, after (NaN: no edge, so below the threshold); change, which is the smallest possible where one of
            them is not known.

        Examples
        --------
        >>> import attngraph as ag
        >>> a, b = (ag.from_matrix(m, threshold=0) for m in ([[1, 0], [0.25, 0.75]], [[1, 0], [0.5, 0.5]]))
        >>> next(iter(a.diff_pairs(b, 1)))["change"]
        0.25
        """
        n = _values.integer(n, "n", least=0)
        return Table(self._result.diff_pairs(_other(other), n, _alignment(self, other, align)))

    def cache_loss(
        self,
        *,
        window: int | None = None,
        first: int | None = None,
        keys: Sequence[int] | None = None,
        heavy: int | None = None,
    ) -> CacheLoss:
        """How much attention a key-value cache that keeps some keys only would lose: bounds, from the edges.

        The cache keeps the union of what is given. What is lost for certain is the weight of edges to dropped keys; at
        most, all that the graph did not keep is lost too. `attngraph.cache_loss` computes it exactly from queries and
        keys.

        Parameters
        ----------
        window : int, optional
            Keys nearer than this stay: a sliding window.
        first : int, optional
            So many first keys stay (attention sinks, StreamingLLM).
        keys : sequence of int, optional
            These keys stay.
        heavy : int, optional
            So many keys of every head stay, those that receive most attention; the graph needs ``stats="heads"``.

        Returns
        -------
        CacheLoss
            `heads`: batch, layer, head, queries, lost_min, lost_max (means), worst_query, worst_min; `queries`: the two
            bounds as arrays by (batch, layer, head).

        Examples
        --------
        >>> import attngraph as ag
        >>> g = ag.from_matrix([[1, 0, 0], [0.5, 0.5, 0], [0.25, 0.25, 0.5]], threshold=0)
        >>> g.cache_loss(window=1, first=1).heads["lost_min"].round(4).tolist()
        [0.0833]
        """
        from ._cache import cache_of, loss_of_graph

        return loss_of_graph(self, cache_of(window, first, keys, heavy))

    def words(self) -> np.ndarray:
        """The number of the word that every token belongs to, from the texts of the tokens.

        A word begins at a token that begins with white space (or with what a tokenizer writes for it), or follows one
        that ends with it; where ``##`` marks continuations, at every other token; where nothing marks words, at every
        token. Special tokens are words of their own.

        Examples
        --------
        >>> import attngraph as ag
        >>> ag.from_matrix([[1, 0, 0]] * 3, tokens=["un", "do", " it"]).words().tolist()
        [0, 0, 1]
        """
        if self.tokens is None:
            raise ArgumentError("the graph has no tokens, which say where words begin; make it with tokens=")
        return self._result.words()


def _alignment(graph, other, align):
    if align is None:
        return []
    if isinstance(align, str):
        if align != "tokens":
            raise ArgumentError(f"align is {align!r}; it is 'tokens', positions, or None")
        return graph.align(other).tolist()
    positions = _values.listed(align, "align", "positions")
    return [-1 if position is None else _values.integer(position, "align") for position in positions]


def _other(graph):
    result = getattr(graph, "_result", None)
    if not isinstance(result, _native.Result):
        raise ArgumentError(f"other is {type(graph).__name__}; it is a Graph")
    return result


def words_of(tokens):
    """As `Graph.words`, of tokens that no graph has yet."""
    sink = _native.Sink.collect()
    sink.set_tokens(token_bytes(tokens))
    return sink.take_result().words()


def _span_ends(spans):
    begins, ends = [], []
    for number, span in enumerate(_values.listed(spans, "spans", "(begin, end) in token positions")):
        both = _values.span(span, f"spans[{number}]", "a span is (begin, end) in token positions")
        for to, end in zip((begins, ends), both):
            to.append(_values.integer(end, f"spans[{number}]"))
    return begins, ends


def _words_at(offsets):
    """Words out of places in a text: tokens that touch are one."""
    words, last = [], None
    for number, offset in enumerate(_values.listed(offsets, "offsets", "(begin, end) in the text")):
        begin, end = _values.span(offset, f"offsets[{number}]", "an offset is (begin, end) in the text")
        if begin == end:
            words.append(None)
            last = None
        else:
            words.append(len(words) if last != begin else words[-1])
            last = end
    return words


def _runs(words, positions):
    """Spans of tokens with the same number, side by side."""
    words = [None if w is None else _values.integer(w, "word_ids") for w in _values.listed(words, "word_ids", "numbers")]
    words = [None if w is None or w < 0 else w for w in words]
    if len(words) != positions:
        raise ShapeError(f"there are words of {len(words)} tokens; the graph has {positions} positions")
    begins, ends = [], []
    for position, word in enumerate(words):
        if word is None:
            continue
        if position and words[position - 1] == word:
            ends[-1] = position + 1
        else:
            begins.append(position)
            ends.append(position + 1)
    return begins, ends


def _known(values):
    return values >= 0 if values.dtype.kind == "i" else ~np.isnan(values)
