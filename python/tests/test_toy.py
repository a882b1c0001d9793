# SPDX-License-Identifier: Apache-2.0
"""The toy explorer: its numbers, and what its pictures are made of."""

import doctest
import math
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import numpy as np
import pytest

import attngraph as ag
from attngraph import toy

SVG = "{http://www.w3.org/2000/svg}"
EXPECTED = {
    "hope": [0.04, 0.55, 0.03, 0.38],
    "exuberance": [0.06, 0.13, 0.24, 0.57],
    "hate": [0.57, 0.24, 0.13, 0.06],
    "sycophant": [0.38, 0.03, 0.55, 0.04],
}


@pytest.fixture
def seed_42():
    return toy.attention(seed=42)


def test_seed_42_gives_the_notes_weights(seed_42):
    assert {word: row for word, row in zip(seed_42.words, seed_42.weights.round(2).tolist())} == EXPECTED


def test_the_key_matrix_is_drawn_first(seed_42):
    np.random.seed(42)
    assert np.array_equal(seed_42.key_matrix, np.random.uniform(-1, 1, (2, 2)))
    assert np.array_equal(seed_42.query_matrix, np.random.uniform(-1, 1, (2, 2)))


def test_scores_are_plain_dot_products_of_query_and_key(seed_42):
    for i, (_, word_i) in enumerate(toy.WORDS):
        for j, (_, word_j) in enumerate(toy.WORDS):
            score = (np.array(word_i) @ seed_42.query_matrix) @ (np.array(word_j) @ seed_42.key_matrix)
            assert seed_42.scores[i, j] == pytest.approx(score, abs=1e-15)
    assert np.allclose(seed_42.weights, np.exp(seed_42.scores) / np.exp(seed_42.scores).sum(1, keepdims=True))


def test_seeds_repeat_and_their_absence_does_not():
    assert np.array_equal(toy.attention(seed=7).weights, toy.attention(seed=7).weights)
    assert not np.array_equal(toy.attention().key_matrix, toy.attention().key_matrix)


def test_a_given_matrix_leaves_the_other_draw_as_it_is(seed_42):
    other = toy.attention(seed=42, key_matrix=np.eye(2))
    assert np.array_equal(other.keys, seed_42.embeddings)
    assert np.array_equal(other.query_matrix, seed_42.query_matrix)


def test_softmax_is_stable():
    assert toy.softmax([[1e300, 1e300], [-1e300, 0.0]]).tolist() == [[0.5, 0.5], [0.0, 1.0]]
    for size in (1e8, 1e60):
        far = toy.attention([("a", (size, 0)), ("b", (-size, size))], seed=0)
        assert np.isfinite(far.weights).all() and np.allclose(far.weights.sum(axis=1), 1)


def test_equal_words_stay_apart():
    twice = toy.attention([("hope", (-1, 1)), ("hate", (-1, -1)), ("hope", (-1, 1))], seed=42)
    assert twice.weights.shape == (3, 3)
    assert twice.title(0)[0] == twice.title(2)[0] == "Attention scores for query word 'hope':"
    assert [line.split(":")[0] for line in twice.title(1)[1:]] == ["'hope'", "'hate'", "'hope'"]
    assert len(twice.grid().plots) == 3
    names = [text for text in drawn(twice.plot(0).svg(), "text") if text.text == "hope"]
    assert len({(name.get("x"), name.get("y")) for name in names}) == 3  # two keys at one place, and the query


def test_words_may_come_as_a_mapping(seed_42):
    assert np.array_equal(toy.attention(dict(toy.WORDS), seed=42).weights, seed_42.weights)


def test_the_weights_are_a_graph(seed_42):
    graph = seed_42.graph(threshold=0.5)
    assert [(graph.tokens[e.query], graph.tokens[e.key]) for e in graph.top(4)] == [
        ("exuberance", "sycophant"),
        ("hate", "hope"),
        ("hope", "exuberance"),
        ("sycophant", "hate"),
    ]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ([], ag.errors.ArgumentError),
        (["hope"], ag.errors.ArgumentError),
        ([(1, (0, 0))], ag.errors.ArgumentError),
        ([("hope", (1, 2, 3))], ag.errors.ShapeError),
        ([("hope", 1.0)], ag.errors.ShapeError),
        ([("a", (0, 0)), ("hope", (math.nan, 0))], ag.errors.NonfiniteError),
        ([("a", (0, 0)), ("hope", (0, -1e61))], ag.errors.RangeError),
    ],
)
def test_words_that_cannot_be_drawn_are_refused(words, error):
    with pytest.raises(error):
        toy.attention(words)


def test_matrices_are_two_by_two():
    with pytest.raises(ag.errors.ShapeError, match=r"query_matrix has the shape \[3, 3\]"):
        toy.attention(query_matrix=np.eye(3))
    with pytest.raises(ag.errors.NonfiniteError, match="key_matrix"):
        toy.attention(key_matrix=[[math.inf, 0], [0, 1]])
    with pytest.raises(ag.errors.RangeError, match="query_matrix holds 1e[+]61; the limit is 1e[+]60"):
        toy.attention(query_matrix=[[1e61, 0], [0, 1]])


def test_docstrings_say_what_they_show():
    failed, tried = doctest.testmod(toy)
    assert failed == 0 and tried >= 12


# -------------------------------------------------------------------------------------------------------------------
# pictures


def drawn(svg, tag):
    return list(ElementTree.fromstring(svg).iter(SVG + tag))


def panels(svg):
    return drawn(svg, "g")


def circles(panel):
    return [(float(c.get("cx")), float(c.get("cy"))) for c in panel.iter(SVG + "circle")]


def test_one_panel_a_query_and_two_in_a_row(seed_42):
    corners = [panel.get("transform") for panel in panels(seed_42.svg())]
    assert len(corners) == 4
    x, y = zip(*(map(float, corner[len("translate(") : -1].split()) for corner in corners))
    assert x[0] == x[2] < x[1] == x[3]
    assert y[0] == y[1] < y[2] == y[3]
    assert len({panel.get("transform").split()[1] for panel in panels(seed_42.svg(columns=4))}) == 1
    with pytest.raises(ag.errors.ArgumentError):
        seed_42.svg(columns=0)


def test_titles_are_the_weights(seed_42):
    for panel, (word, row) in zip(panels(seed_42.svg()), EXPECTED.items()):
        lines = [text.text for text in panel.iter(SVG + "text")][:5]
        assert lines[0] == f"Attention scores for query word '{word}':"
        assert lines[1:] == [f"'{key}': {weight:.2f}" for key, weight in zip(EXPECTED, row)]


def test_circles_have_60_square_pixels_and_a_colour_for_each_group(seed_42):
    for panel in panels(seed_42.svg()):
        found = list(panel.iter(SVG + "circle"))
        assert len(found) == 5
        assert all(math.pi * float(c.get("r")) ** 2 == pytest.approx(60, rel=1e-3) for c in found)
        fills = [c.get("fill") for c in found]
        assert len(set(fills[:4])) == 1 and fills[4] != fills[0]


def test_names_stand_5_right_of_and_5_above_their_circles(seed_42):
    for panel in panels(seed_42.svg()):
        names = [text for text in panel.iter(SVG + "text") if text.text in EXPECTED]
        places = [(float(t.get("x")) - 5, float(t.get("y")) + 5) for t in names]
        assert np.allclose(places, circles(panel))
        assert all(t.get("text-anchor") == "start" for t in names)
        assert [t.get("fill") for t in names] == [c.get("fill") for c in panel.iter(SVG + "circle")]


def test_axes_have_one_range_and_black_rules_at_0(seed_42):
    for query, panel in enumerate(panels(seed_42.svg())):
        vertical, horizontal = list(panel.iter(SVG + "line"))
        assert vertical.get("stroke") == horizontal.get("stroke") == "black"
        assert vertical.get("x1") == vertical.get("x2") and horizontal.get("y1") == horizontal.get("y2")
        origin = np.array([float(vertical.get("x1")), float(horizontal.get("y1"))])
        points = [*seed_42.keys, seed_42.queries[query]]
        scale = (np.array(circles(panel)) - origin) / np.array(points)
        assert np.allclose(scale[:, 0], -scale[:, 1], rtol=0.05)  # pixels a unit, y upwards; places are rounded
        frame = panel.find(SVG + "rect")
        assert frame.get("width") == frame.get("height")


def test_points_at_one_place_and_far_away_are_drawn():
    for place in ((0.0, 0.0), (1e-300, 0.0), (1e12, -1e12), (1e60, 0)):
        figure = toy.embeddings([("a", place), ("b", place)])
        assert all(math.isfinite(value) for value in (*figure.domain, *np.ravel(circles(panels(figure.svg())[0]))))


def test_names_at_the_right_border_have_room():
    for name in ("x", "sycophant", "antidisestablishmentarianism"):
        root = ElementTree.fromstring(toy.embeddings([(name, (1, 0)), ("o", (-1, 0))]).svg())
        at = {text.text: float(text.get("x")) for text in root.iter(SVG + "text")}
        assert at["Group"] > at[name] + 6.5 * len(name)
        assert float(root.get("width")) > at["Group"] + 100


def test_words_cannot_break_the_picture():
    svg = toy.attention([('<script>"&\x00\ud800', (0, 1)), ("ق", (1, 0))], seed=1).svg()
    assert not drawn(svg, "script")
    assert any(text.text == '<script>"&\ufffd\ufffd' for text in drawn(svg, "text"))
    svg.encode("utf-8")


def test_pages_load_nothing(seed_42, tmp_path):
    seen = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attributes):
            seen.append(tag)
            assert not {"src", "href", "xlink:href"} & {name for name, _ in attributes}

    Reader().feed(seed_42.html())
    assert seen[:2] == ["html", "head"] and "svg" in seen and "script" not in seen
    for name in ("toy.html", "toy.svg"):
        seed_42.grid().save(tmp_path / name)
    assert (tmp_path / "toy.svg").read_text(encoding="utf-8") == seed_42._repr_svg_() == seed_42.svg()
    assert seed_42.svg() in (tmp_path / "toy.html").read_text(encoding="utf-8")
    with pytest.raises(ag.errors.ArgumentError, match="'.png'"):
        seed_42.grid().save(tmp_path / "toy.png")


def test_the_altair_chart_says_the_same(seed_42):
    pytest.importorskip("altair")
    rows = seed_42.chart().to_dict()["vconcat"]
    assert [len(row["hconcat"]) for row in rows] == [2, 2]
    for query, plot in enumerate(rows[0]["hconcat"] + rows[1]["hconcat"]):
        rule_x, rule_y, points, names = plot["layer"]
        assert plot["title"]["text"] == seed_42.title(query)
        assert rule_x["mark"] == rule_y["mark"] == {"type": "rule", "color": "black"}
        assert (rule_x["encoding"], rule_y["encoding"]) == ({"x": {"datum": 0}}, {"y": {"datum": 0}})
        assert (points["mark"]["type"], points["mark"]["size"]) == ("circle", 60)
        assert names["mark"] == {"type": "text", "align": "left", "dx": 5, "dy": -5}
        assert points["encoding"]["color"]["field"] == names["encoding"]["color"]["field"] == "group"
        assert points["encoding"]["x"]["scale"] == points["encoding"]["y"]["scale"]
        assert plot["width"] == plot["height"]
        drawn_points = [(row["word"], row["group"]) for row in points["data"]["values"]]
        assert drawn_points == [(word, "key") for word in EXPECTED] + [(list(EXPECTED)[query], "query")]


def test_without_altair_the_chart_says_what_to_install(seed_42, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "altair", None)
    with pytest.raises(ag.errors.MissingPackageError, match="pip install altair"):
        seed_42.chart()
