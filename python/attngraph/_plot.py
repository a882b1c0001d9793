# SPDX-License-Identifier: Apache-2.0
"""Static pictures of graphs: a head as a map, as arcs; all heads as small maps."""

from __future__ import annotations

import numpy as np

from . import _picture as pic
from . import _values
from .errors import ArgumentError, LimitError

_MOST_WORDS = 96  # on an axis; more are not legible
_MOST_ARCS_WORDS = 200


def words_of(graph, batch):
    """(words of queries, words of keys) as functions of a query and a key; None where there is none."""

    def of(lists):
        if lists and isinstance(lists[0], (list, tuple)):
            return lists[batch] if batch < len(lists) else []
        return lists

    two = two_texts(graph)
    keys, queries = of(graph.labels("keys") or []), of(graph.labels("queries") or [])

    def key(k):
        return keys[k] if 0 <= k < len(keys) else None

    def query(q):
        if two:
            return queries[q] if 0 <= q < len(queries) else None
        return key(q + graph._query_offset)

    return query, key


def two_texts(graph):
    """Queries are another text than the keys: said so, or they cannot all stand among the keys (as page_facts.cpp)."""
    offset, slices = graph._query_offset, [s for s in graph._slices if s.query_count]
    first = min((s.query_begin + offset for s in slices), default=0)
    last = max((s.query_begin + s.query_count + offset for s in slices), default=0)
    return graph._result.two_sided() or first < 0 or last > max((s.key_count for s in slices), default=0)


def size_of(size):
    """A size in pixels."""
    size = _values.number(size, "size")
    if not 1 <= size <= 1e5:
        raise ArgumentError(f"size is {size:g}; it is 1 to 100000 pixels")
    return size


def window(span, begin, end, what):
    """A range of positions as (begin, end), None meaning all."""
    if span is None:
        return begin, end
    first, last = _values.span(span, what)
    first, last = begin if first is None else first, end if last is None else last
    if not begin <= first < last <= end:
        raise ArgumentError(f"{what} is {first}:{last}; the head has {begin}:{end}")
    return first, last


def high_of(graph):
    """The weight that the darkest colour stands for: 1, or more where a matrix holds more."""
    heaviest = graph.stats().weight_max if len(graph) else 1.0
    return max(1.0, heaviest)


def shares(graph, layer, head, batch, rows, columns, queries, keys):
    """Cells: the share of its queries' attention that a cell's keys get."""
    cells = graph.bins(layer, head, (rows, columns), batch=batch, value="sum", queries=queries, keys=keys)
    edges = -(-np.arange(rows + 1) * (queries[1] - queries[0]) // rows)
    return cells / np.maximum(np.diff(edges), 1)[:, None]


def edges_in(graph, layer, head, batch, queries, keys, threshold):
    """Arrays (query, key, weight) of a window, in the order of the table."""
    s = graph._slices[graph._place(layer, head, batch)]
    indptr, indices, data = graph.csr(layer, head, batch)
    first, last = indptr[queries[0] - s.query_begin], indptr[queries[1] - s.query_begin]
    rows = np.repeat(
        np.arange(queries[0], queries[1]), np.diff(indptr[queries[0] - s.query_begin : queries[1] - s.query_begin + 1])
    )
    k, w = indices[first:last], data[first:last]
    inside = (k >= keys[0]) & (k < keys[1]) & (w >= threshold)
    return rows[inside], k[inside], w[inside].astype(float)


def plot_map(graph, layer, head, batch, queries, keys, threshold, value, size):
    s = graph._slices[graph._place(layer, head, batch)]
    queries = window(queries, s.query_begin, s.query_begin + s.query_count, "queries")
    keys = window(keys, 0, s.key_count, "keys")
    rows, columns = queries[1] - queries[0], keys[1] - keys[0]
    query_word, key_word = words_of(graph, batch)
    high = high_of(graph)

    across = size if columns >= rows else max(size * columns / max(rows, 1), size / 4)
    down = across * rows / max(columns, 1) if columns else size
    down = min(max(down, size / 4), 2 * size)
    parts = []
    few = max(rows, columns) <= _MOST_WORDS
    if few:  # one size for words on both axes: cells at least 11 high and wide
        across, down = max(across, 11.5 * columns), max(down, 11.5 * rows)
    longest = lambda words: 8 + 6.6 * max([len(w) for w in words] + [3])
    names = {
        "query": [pic.label(query_word(q)) if query_word(q) is not None else str(q) for q in range(*queries)]
        if few
        else [],
        "key": [pic.label(key_word(k)) if key_word(k) is not None else str(k) for k in range(*keys)] if few else [],
    }
    left = longest(names["query"]) if few else 58
    top = 30 + (longest(names["key"]) if few else 18)
    width, height = left + across + 12, top + down + 40
    title = f"layer {layer}, head {head}" + (f", batch {batch}" if batch else "")
    parts.append(pic.text(left, 14, title, size=13, bold=True))
    parts.append(
        f'<rect x="{left:g}" y="{top:g}" width="{across:g}" height="{down:g}" fill="none" stroke="{pic.LINE}"/>'
    )
    if few:
        parts += _small_cells(graph, layer, head, batch, queries, keys, threshold, left, top, across, down, high)
        for r, name in enumerate(names["query"]):
            parts.append(pic.text(left - 6, top + down * (r + 0.5) / rows, name, anchor="end"))
        for c, name in enumerate(names["key"]):
            parts.append(pic.text(left + across * (c + 0.5) / columns, top - 6, name, turn=-90))
    elif rows and columns:
        grid = min(rows, int(down)), min(columns, int(across))  # a cell a pixel: what scales it down loses none
        source = graph if threshold <= 0 else graph.filter(threshold, layers=layer, heads=head)
        if value == "max":
            cells = source.bins(layer, head, grid, batch=batch, queries=queries, keys=keys)
        else:
            cells = shares(source, layer, head, batch, *grid, queries, keys)
        parts.append(pic.image(pic.codes(cells, high), left, top, across, down))
        parts += _ticks(left, top, across, down, queries, keys)
    kept = graph.stats(layer, head, batch).kept_mass_mean
    said = f"queries down, keys across; {s.edge_count:,} edges, {100 * kept:.1f} % of the attention kept"
    parts.append(pic.text(left, top + down + 16, said, size=10, fill=pic.QUIET))
    parts += _scale(left, top + down + 28, high)
    return pic.Picture(round(width), round(height), title, parts)


def _small_cells(graph, layer, head, batch, queries, keys, threshold, left, top, across, down, high):
    rows, columns = queries[1] - queries[0], keys[1] - keys[0]
    wide, tall = across / columns, down / rows
    grid = "".join(f"M{left:g} {top + tall * r:.2f}h{across:g}" for r in range(1, rows))
    grid += "".join(f"M{left + wide * c:.2f} {top:g}v{down:g}" for c in range(1, columns))
    yield f'<path d="{grid}" stroke="{pic.HAIR}" fill="none"/>'
    for q, k, w in zip(*edges_in(graph, layer, head, batch, queries, keys, threshold)):
        x, y = left + wide * (k - keys[0]), top + tall * (q - queries[0])
        yield f'<rect x="{x:.2f}" y="{y:.2f}" width="{wide:.2f}" height="{tall:.2f}" fill="{pic.colour(w, high)}"/>'
        if wide >= 26 and tall >= 14:
            number = pic.weight_text(w).removeprefix("0")
            yield pic.text(x + wide / 2, y + tall / 2, number, size=9.5, anchor="middle", fill=pic.ink_on(w, high))


def _step(count, room):
    rough = max(1, count / max(1, room))
    power = 10 ** int(np.floor(np.log10(rough)))
    return next(int(f * power) for f in (1, 2, 5, 10) if f * power >= rough)


def _ticks(left, top, across, down, queries, keys):
    step = _step(queries[1] - queries[0], down / 40)
    for q in range(-(-queries[0] // step) * step, queries[1], step):
        y = top + down * (q - queries[0]) / (queries[1] - queries[0])
        yield f'<path d="M{left - 4:g} {y:.2f}h4" stroke="{pic.LINE}"/>'
        yield pic.text(left - 7, y, f"{q:,}", size=10, anchor="end", fill=pic.QUIET)
    step = _step(keys[1] - keys[0], across / 64)
    for k in range(-(-keys[0] // step) * step, keys[1], step):
        x = left + across * (k - keys[0]) / (keys[1] - keys[0])
        yield f'<path d="M{x:.2f} {top - 4:g}v4" stroke="{pic.LINE}"/>'
        yield pic.text(x, top - 11, f"{k:,}", size=10, anchor="middle", fill=pic.QUIET)


def _scale(x, y, high):
    values = [0.01, 0.05, 0.1, 0.2, 0.5, 1.0]
    for n, value in enumerate(values):
        at = x + 44 * n
        yield f'<rect x="{at:g}" y="{y - 4:g}" width="10" height="8" fill="{pic.colour(value * high, high)}"/>'
        yield pic.text(at + 13, y, f"{value * high:g}", size=9.5, fill=pic.QUIET)


def plot_arcs(graph, layer, head, batch, queries, keys, threshold, size):
    s = graph._slices[graph._place(layer, head, batch)]
    queries = window(queries, s.query_begin, s.query_begin + s.query_count, "queries")
    offset = graph._query_offset
    two = two_texts(graph)
    keys = window(keys, 0, s.key_count, "keys")
    if not two:  # one line of words holds both ends
        first, last = min(queries[0] + offset, keys[0]), max(queries[1] + offset, keys[1])
    spans = [queries, keys] if two else [(first, last)]
    count = max(b - a for a, b in spans)
    if count > _MOST_ARCS_WORDS:
        raise LimitError(
            f"arcs over {count:,} words are not legible; give queries= and keys= of at most {_MOST_ARCS_WORDS} "
            'positions, or kind="map"'
        )
    query_word, key_word = words_of(graph, batch)
    high = high_of(graph)
    step = max(13.0, min(44.0, size / max(count, 1)))
    left, labels = 16, 92
    width = left * 2 + step * count
    place = lambda p, begin: left + step * (p - begin + 0.5)
    q, k, w = edges_in(graph, layer, head, batch, queries, keys, threshold)
    order = np.argsort(w, kind="stable")
    longest = max((abs(int(b) - int(a) - offset) for a, b in zip(k, q)), default=1) if not two else 0
    tall = 200 if two else min(260, max(60, 24 + 0.55 * step * longest))
    top = 30 + (labels if two else 0)
    floor = top + tall
    parts = [
        pic.text(left, 14, f"layer {layer}, head {head}" + (f", batch {batch}" if batch else ""), size=13, bold=True)
    ]
    short = lambda word, p: pic.label(word, 40) if word else str(p)
    for e in order:
        a = place(q[e], queries[0]) if two else place(q[e] + offset, first)
        b = place(k[e], keys[0] if two else first)
        if two:
            d = f"M{a:.1f} {top}C{a:.1f} {top + tall / 2:.1f} {b:.1f} {top + tall / 2:.1f} {b:.1f} {floor}"
        elif a == b:
            d = f"M{a - 4:.1f} {floor}a4.5 5 0 1 1 8 0"
        else:
            high_point = min(tall - 6, 12 + 0.6 * abs(a - b)) * 1.3
            d = f"M{a:.1f} {floor}C{a:.1f} {floor - high_point:.1f} {b:.1f} {floor - high_point:.1f} {b:.1f} {floor}"
        stroke = 0.8 + 3 * float(np.sqrt(w[e] / high))
        names = f"{short(query_word(int(q[e])), q[e])} → {short(key_word(int(k[e])), k[e])}: {pic.weight_text(w[e])}"
        title = pic.text(0, 0, names).split(">", 1)[1].rsplit("</text>", 1)[0]
        parts.append(
            f'<path d="{d}" fill="none" stroke="{pic.colour(w[e], high)}" stroke-width="{stroke:.2f}"><title>{title}</title></path>'
        )
    name = lambda word, p: pic.label(word) if word is not None else str(p)
    if two:
        parts += [
            pic.text(place(i, queries[0]), top - 6, name(query_word(i), i), size=12, turn=-90) for i in range(*queries)
        ]
        parts += [
            pic.text(place(i, keys[0]), floor + 8, name(key_word(i), i), size=12, anchor="end", turn=-90)
            for i in range(*keys)
        ]
    else:
        parts += [
            pic.text(place(i, first), floor + 8, name(key_word(i), i), size=12, anchor="end", turn=-90)
            for i in range(first, last)
        ]
    height = floor + labels + 26
    parts += _scale(left, height - 10, high)
    return pic.Picture(round(max(width, 300)), round(height), f"layer {layer}, head {head}: arcs", parts)


def plot_heads(graph, layers, batch, size, columns=None):
    """Small maps of all heads, layers down and heads across."""
    chosen = [s for s in graph._slices if s.batch == batch and (layers is None or s.layer in set(layers))]
    if not chosen:
        have = sorted({s.batch for s in graph._slices})
        raise ArgumentError(
            f"there is no head of batch {batch}"
            + (f" in layers {sorted(set(layers))}" if layers is not None else "")
            + f"; the batches are {have}"
        )
    high = high_of(graph)
    if columns is None:  # layers down
        rows = {layer: [s for s in chosen if s.layer == layer] for layer in sorted({s.layer for s in chosen})}
    else:
        rows = {n: chosen[n * columns : (n + 1) * columns] for n in range(-(-len(chosen) // columns))}
    left, top, gap, size = 50, 26, 6, int(size)
    across = max(len(heads) for heads in rows.values())
    sheet = np.zeros((len(rows) * (size + gap), across * (size + gap)), np.uint8)  # all maps in one image
    parts = []
    for r, (layer, heads) in enumerate(rows.items()):
        y = top + r * (size + gap)
        if columns is None:
            parts.append(pic.text(left - 8, y + size / 2, str(layer), size=10, anchor="end", fill=pic.QUIET))
        for c, s in enumerate(heads):
            x = left + c * (size + gap)
            sheet[y - top : y - top + size, x - left : x - left + size] = _small_map(graph, s, size, high)
            parts.append(
                f'<rect x="{x}" y="{y}" width="{size}" height="{size}" fill="none" stroke="{pic.LINE}">'
                f"<title>layer {s.layer} head {s.head}: {s.edge_count:,} edges</title></rect>"
            )
            if columns is not None:
                parts.append(pic.text(x + 3, y + 7, f"{s.layer}:{s.head}", size=8, fill=pic.QUIET))
            elif r == 0:
                parts.append(pic.text(x + size / 2, top - 9, str(s.head), size=10, anchor="middle", fill=pic.QUIET))
    parts.insert(0, pic.image(sheet, left, top, sheet.shape[1], sheet.shape[0]))
    if columns is None:
        parts.append(pic.text(2, top - 9, "layer, head", size=9, fill=pic.QUIET))
    width = left + across * (size + gap)
    return pic.Picture(round(max(width, 80)), round(top + len(rows) * (size + gap)), f"{len(chosen)} heads", parts)


def _small_map(graph, s, size, high):
    """Codes [size, size] of a slice: the share of its queries' attention that a cell's keys get."""
    rows, columns = min(size, s.query_count), min(size, s.key_count)
    if min(rows, columns) == 0:
        return 0
    sums = graph._result.bins(graph._slices.index(s), rows, columns, 2, 0, 0, 0, 0)
    queries = np.diff(-(-np.arange(rows + 1) * s.query_count // rows))
    codes = pic.codes(sums / queries[:, None], high)
    return codes[np.arange(size) * rows // size][:, np.arange(size) * columns // size]
