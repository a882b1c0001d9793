# SPDX-License-Identifier: Apache-2.0
"""Attention in two dimensions, to be looked at: a few named word embeddings, a random key and a random query matrix.

Every word is multiplied by both matrices; the scores of a query word are the plain dot products of its query with all
keys (not divided by sqrt(d)), and their softmax is what it pays to each word. `attention` computes that, and its answer
draws one scatter plot for each query word: as SVG or HTML without any other package, or as an Altair chart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Union

import numpy as np

from ._extract import from_matrix
from ._toy_figure import Grid, Point, Scatter
from .errors import ArgumentError, NonfiniteError, RangeError, ShapeError
from .graph import Graph

if TYPE_CHECKING:
    import altair

    Words = Union[Mapping[str, Sequence[float]], Iterable[tuple[str, Sequence[float]]]]

__all__ = ["WORDS", "Attention", "Grid", "Point", "Scatter", "attention", "embeddings", "softmax"]

WORDS = (
    ("hope", (-1.0, 1.0)),
    ("exuberance", (1.0, 1.0)),
    ("hate", (-1.0, -1.0)),
    ("sycophant", (1.0, -1.0)),
)
_LARGEST = 1e60  # of embeddings and matrices: scores are products of four, and must not overflow


def softmax(scores: Any) -> np.ndarray:
    """Softmax over the last axis, safe for scores of any size: the largest is taken off before exp.

    Examples
    --------
    >>> from attngraph import toy
    >>> toy.softmax([1000.0, 1000.0]).tolist()
    [0.5, 0.5]
    """
    scores = np.asarray(scores, dtype=np.float64)
    if scores.shape[-1:] == (0,):
        return scores.copy()
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


class Attention(NamedTuple):
    """What every word pays to every word, and how that came about. Row i is word i; equal words stay apart."""

    words: tuple[str, ...]
    embeddings: np.ndarray  # [N, 2]
    key_matrix: np.ndarray  # [2, 2]
    query_matrix: np.ndarray  # [2, 2]
    keys: np.ndarray  # [N, 2], embeddings @ key_matrix
    queries: np.ndarray  # [N, 2], embeddings @ query_matrix
    scores: np.ndarray  # [N, N], queries @ keys.T
    weights: np.ndarray  # [N, N], softmax of each row of scores

    def title(self, query: int) -> list[str]:
        """The lines above the plot of one query word, by its position.

        Examples
        --------
        >>> from attngraph import toy
        >>> toy.attention(seed=42).title(1)[:2]
        ["Attention scores for query word 'exuberance':", "'hope': 0.06"]
        """
        lines = [f"Attention scores for query word '{self.words[query]}':"]
        return lines + [f"'{word}': {weight:.2f}" for word, weight in zip(self.words, self.weights[query])]

    def plot(self, query: int) -> Scatter:
        """The keys of all words and the query of one, by its position: a `Scatter`.

        Examples
        --------
        >>> from attngraph import toy
        >>> [point.group for point in toy.attention(seed=42).plot(0).points]
        ['key', 'key', 'key', 'key', 'query']
        """
        points = [Point(word, *map(float, key), "key") for word, key in zip(self.words, self.keys)]
        points.append(Point(self.words[query], *map(float, self.queries[query]), "query"))
        return Scatter(points, self.title(query))

    def grid(self, columns: int = 2) -> Grid:
        """The plots of all query words, `columns` of them in a row: a `Grid`.

        Examples
        --------
        >>> from attngraph import toy
        >>> len(toy.attention(seed=42).grid().plots)
        4
        """
        return Grid([self.plot(query) for query in range(len(self.words))], columns)

    def svg(self, columns: int = 2) -> str:
        """The grid as SVG text."""
        return self.grid(columns).svg()

    def html(self, columns: int = 2) -> str:
        """The grid as a complete HTML page that loads nothing."""
        return self.grid(columns).html()

    def chart(self, columns: int = 2) -> altair.VConcatChart:
        """The grid as an Altair chart."""
        return self.grid(columns).chart()

    def graph(self, threshold: float = 0.0) -> Graph:
        """The weights as an `attngraph.Graph`, for everything that graphs can do.

        Examples
        --------
        >>> from attngraph import toy
        >>> len(toy.attention(seed=42).graph(threshold=0.5))
        4
        """
        return from_matrix(self.weights, threshold, tokens=self.words)

    def __repr__(self) -> str:
        return f"<attngraph.toy.Attention: {len(self.words)} words>"

    def _repr_svg_(self) -> str:
        return self.svg()


def attention(
    words: Words = WORDS,
    seed: int | None = None,
    *,
    key_matrix: Any = None,
    query_matrix: Any = None,
    low: float = -1.0,
    high: float = 1.0,
) -> Attention:
    """Let every word attend to every word through a random key and a random query matrix.

    Parameters
    ----------
    words : mapping of str to (x, y), or sequence of (str, (x, y))
        The embeddings. A sequence may name a word twice; the two stay apart.
    seed : int, optional
        Draws the matrices as NumPy's `RandomState` of this seed does (as after ``numpy.random.seed(seed)``), the key
        matrix first. Another draw each time unless given.
    key_matrix, query_matrix : array [2, 2], optional
        Instead of random ones. The numbers of a matrix that is given are drawn nevertheless, so that the other one
        does not depend on that.
    low, high : float
        The matrices are uniform in [low, high).

    Returns
    -------
    Attention

    Examples
    --------
    >>> from attngraph import toy
    >>> toy.attention(seed=42).weights.round(2)[0].tolist()
    [0.04, 0.55, 0.03, 0.38]
    """
    names, vectors = _named(words)
    random = np.random.RandomState(seed)
    drawn_key = random.uniform(low, high, (2, 2))
    drawn_query = random.uniform(low, high, (2, 2))
    key_matrix = _matrix(drawn_key if key_matrix is None else key_matrix, "key_matrix")
    query_matrix = _matrix(drawn_query if query_matrix is None else query_matrix, "query_matrix")
    keys, queries = vectors @ key_matrix, vectors @ query_matrix
    scores = queries @ keys.T
    return Attention(names, vectors, key_matrix, query_matrix, keys, queries, scores, softmax(scores))


def embeddings(words: Words = WORDS, title: str = "Word embeddings") -> Scatter:
    """The words themselves, before any matrix: a `Scatter`.

    Examples
    --------
    >>> from attngraph import toy
    >>> toy.embeddings().svg()[:4]
    '<svg'
    """
    names, vectors = _named(words)
    return Scatter([Point(name, *map(float, at), "word embedding") for name, at in zip(names, vectors)], [title])


def _named(words):
    pairs = list(words.items() if hasattr(words, "items") else words)
    if not pairs:
        raise ArgumentError("words is empty; there must be at least one")
    for position, pair in enumerate(pairs):
        if not isinstance(pair, (tuple, list)) or len(pair) != 2 or not isinstance(pair[0], str):
            raise ArgumentError(f"words[{position}] is {pair!r}; it must be a name with its place, ('hope', (-1, 1))")
    for name, place in pairs:
        if np.shape(place) != (2,):
            raise ShapeError(f"the embedding of {name!r} has the shape {list(np.shape(place))}; it must be [2]")
    vectors = np.array([place for _, place in pairs], dtype=np.float64)
    for (name, _), vector in zip(pairs, vectors):
        _check(vector, f"the embedding of {name!r}")
    return tuple(name for name, _ in pairs), vectors


def _matrix(values, name):
    matrix = np.array(values, dtype=np.float64)
    if matrix.shape != (2, 2):
        raise ShapeError(f"{name} has the shape {list(matrix.shape)}; it must be [2, 2]")
    _check(matrix, name)
    return matrix


def _check(numbers, name):
    if not np.isfinite(numbers).all():
        raise NonfiniteError(f"{name} is not finite")
    if np.abs(numbers).max() > _LARGEST:
        raise RangeError(f"{name} holds {np.abs(numbers).max():g}; the limit is {_LARGEST:g}")
