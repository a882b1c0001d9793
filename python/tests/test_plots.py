# SPDX-License-Identifier: Apache-2.0
"""Static pictures, grids, charts, what a notebook shows, and BertViz's functions."""

import base64
import re
import struct
import xml.etree.ElementTree as ElementTree
import zlib

import numpy as np
import pytest

import attngraph as ag
from attngraph import _picture

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def weights():
    random = np.random.default_rng(7)
    return np.tril(random.dirichlet(np.full(20, 0.3), size=(2, 3, 20))).astype(np.float32)


@pytest.fixture(scope="module")
def graph(weights):
    return ag.from_matrix(weights, 0.05, tokens=[f" w{i}" for i in range(20)])


def parsed(picture):
    return ElementTree.fromstring(picture.svg())


def texts(picture):
    return [element.text for element in parsed(picture).iter(SVG + "text")]


def png_pixels(data):
    """Codes of a PNG that `_picture.png` wrote."""
    width, height = struct.unpack(">II", data[16:24])
    parts, at = {}, 8
    while at < len(data):
        size, kind = struct.unpack(">I", data[at : at + 4])[0], data[at + 4 : at + 8]
        parts[kind] = data[at + 8 : at + 8 + size]
        assert struct.unpack(">I", data[at + 8 + size : at + 12 + size])[0] == zlib.crc32(data[at + 4 : at + 8 + size])
        at += 12 + size
    lines = np.frombuffer(zlib.decompress(parts[b"IDAT"]), np.uint8).reshape(height, width + 1)
    assert not lines[:, 0].any() and parts[b"PLTE"] == _picture.RAMP.tobytes()
    return lines[:, 1:]


def test_bins_are_the_matrix_in_cells(graph, weights):
    kept = np.where(weights[1, 2] >= 0.05, weights[1, 2], 0)
    assert graph.bins(1, 2, (20, 20)).astype(np.float32).tolist() == kept.tolist()
    blocks = kept.reshape(5, 4, 10, 2)
    assert graph.bins(1, 2, (5, 10)).astype(np.float32).tolist() == blocks.max((1, 3)).tolist()
    np.testing.assert_allclose(graph.bins(1, 2, (5, 10), value="sum"), blocks.sum((1, 3)), rtol=1e-6)
    np.testing.assert_allclose(graph.bins(1, 2, (5, 10), value="mean"), blocks.mean((1, 3)), rtol=1e-6)
    part = graph.bins(1, 2, (3, 4), queries=(10, 13), keys=(2, 6))
    assert part.astype(np.float32).tolist() == kept[10:13, 2:6].tolist()
    with pytest.raises(ag.errors.ArgumentError, match="queries is 0:21; the head has 0:20"):
        graph.bins(1, 2, queries=(0, 21))
    with pytest.raises(ag.errors.ArgumentError, match="0 x 3"):
        graph.bins(1, 2, (0, 3))
    with pytest.raises(ag.errors.ArgumentError, match="'median'"):
        graph.bins(value="median")


def test_a_small_map_has_a_cell_for_every_edge_with_its_words(graph, weights):
    picture = graph.plot(1, 2)
    cells = [
        r
        for r in parsed(picture).iter(SVG + "rect")
        if r.get("fill", "").startswith("#") and r.get("fill") != "#ffffff"
    ]
    edges = int((weights[1, 2] >= 0.05).sum())
    assert len(cells) == edges + 6  # and six of the scale
    assert texts(picture).count("w7") == 2  # as a query and as a key
    heaviest = graph.filter(layers=1, heads=2).top(1)[0].weight
    assert _picture.colour(heaviest) in {cell.get("fill") for cell in cells}
    assert f"{edges} edges" in " ".join(texts(picture))
    part = graph.plot(1, 2, queries=(10, 14), keys=(0, 12), threshold=0.2)
    assert "w11" in texts(part) and "w15" not in texts(part)


def test_a_large_map_is_one_image_that_loses_no_edge():
    n = 8000
    rows = np.arange(n)
    keys = np.maximum(rows - 700, 0).astype(np.int32)
    csr = ag.Csr(np.arange(n + 1), keys, np.full(n, 0.5, np.float32))
    graph = ag.from_slices([(ag.Slice(0, 3, 1, 0, n, n, n), csr)], tokens=["x"] * n)
    picture = graph.plot(3, 1)
    (image,) = parsed(picture).iter(SVG + "image")
    pixels = png_pixels(base64.b64decode(image.get("href").split(",")[1]))
    lit = {(q * pixels.shape[0] // n, k * pixels.shape[1] // n) for q, k in zip(rows.tolist(), keys.tolist())}
    assert {tuple(place) for place in np.argwhere(pixels).tolist()} == lit
    assert "4,000" in texts(picture)
    assert len(picture.svg()) < 60_000


def test_arcs(graph, weights):
    picture = graph.plot(0, 1, kind="arcs")
    assert len(list(parsed(picture).iter(SVG + "path"))) == int((weights[0, 1] >= 0.05).sum())
    assert {"w0", "w19"} <= set(texts(picture))
    with pytest.raises(ag.errors.LimitError, match="at most 200"):
        ag.from_matrix(np.eye(300), 0.5).plot(kind="arcs")


def test_all_heads_are_small_images_of_shares(graph, weights):
    (image,) = parsed(graph.plot_heads(size=40)).iter(SVG + "image")
    pixels = png_pixels(base64.b64decode(image.get("href").split(",")[1]))
    assert pixels.shape == (2 * 46, 3 * 46)
    for layer, head in np.ndindex(2, 3):
        kept = np.where(weights[layer, head] >= 0.05, weights[layer, head], 0)
        shown = pixels[46 * layer : 46 * layer + 40, 46 * head : 46 * head + 40]
        assert shown[::2, ::2].tolist() == shown[1::2, 1::2].tolist() == _picture.codes(kept).tolist()
    (image,) = parsed(graph.plot_heads([1], size=10, columns=2)).iter(SVG + "image")
    pixels = png_pixels(base64.b64decode(image.get("href").split(",")[1]))
    assert pixels.shape == (32, 32) and not pixels[16:, 16:].any()  # three heads, in rows of two
    with pytest.raises(ag.errors.ArgumentError, match="no head of batch 4"):
        graph.plot_heads(batch=4)


def test_pictures_are_saved_as_svg_and_png(graph, tmp_path):
    picture = graph.plot(0, 0)
    picture.save(tmp_path / "a.svg")
    assert (tmp_path / "a.svg").read_text(encoding="utf-8") == picture.svg() == picture._repr_svg_()
    with pytest.raises(ag.errors.ArgumentError, match=".svg or .png"):
        picture.save(tmp_path / "a.pdf")
    pytest.importorskip("vl_convert")
    picture.save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n" and struct.unpack(">I", data[16:20])[0] == 2 * picture.width


def test_words_cannot_break_a_picture():
    evil = [
        "</svg><script>alert(1)</script>",
        '"><x y="',
        "\x00\x1b[2J",
        "\u202eabc",
        "",
        "a" * 100_000,
        "]]>",
        "&amp;",
    ]
    graph = ag.from_matrix(np.tril(np.full((8, 8), 0.3)), 0.1, tokens=evil)
    for picture in (graph.plot(), graph.plot(kind="arcs"), graph.plot_heads()):
        root = parsed(picture)
        assert not list(root.iter(SVG + "script")) and len(picture.svg()) < 60_000
    page = graph._repr_html_()
    assert "<script" not in page and "alert(1)</script>" not in page


def test_a_notebook_shows_heads_and_links_between_words(graph, weights):
    page = graph._repr_html_()
    assert page.count("<image") == 1
    rows = re.findall(
        r"<tr><td[^>]*>(\d+)</td><td[^>]*>(\d+)</td><td[^>]*>w(\d+) \((\d+)\)</td><td[^>]*>w(\d+) \(\d+\)</td><td[^>]*>([\d.]+)</td>",
        page,
    )
    assert len(rows) == 6
    layer, head, query, _, key, weight = rows[0]
    linked = weights.copy()
    linked[..., 0] = 0
    linked[..., np.arange(20), np.arange(20)] = 0
    assert float(weight) == pytest.approx(linked.max(), abs=6e-4)
    assert linked[int(layer), int(head), int(query), int(key)] == linked.max()
    assert "Strongest links" not in ag.from_matrix(np.eye(3))._repr_html_()
    assert ag.from_matrix(np.zeros((0, 4, 4)))._repr_html_()


def test_the_page_in_a_notebook_is_one_frame(graph):
    shown = graph.view(height=300)._repr_html_()
    assert (
        shown.startswith('<iframe sandbox="allow-scripts ') and shown.count("<iframe") == 1 and "height: 300px" in shown
    )
    assert "<!doctype html>" not in shown  # escaped
    with pytest.raises(ag.errors.LimitError, match="max_bytes"):
        graph.view(max_bytes=1000)
    assert len(graph.view(layers=[1]).html) < len(graph.view().html)


def test_charts(graph):
    pytest.importorskip("altair")
    for kind in ("heatmap", "arc", "bipartite"):
        chart = graph.chart(kind, 0, 1).to_dict()
        assert chart["title"].startswith("layer 0, head 1: ")
    cut = graph.chart("heatmap", 0, 1, max_edges=10).to_dict()
    assert len(cut["data"]["values"]) == 10 and "the heaviest 10 of" in cut["title"]
    with pytest.raises(ag.errors.ArgumentError, match="'pie'"):
        graph.chart("pie")


def test_bertvizs_functions_take_its_arguments(weights):
    attention = tuple(layer[None] for layer in weights)
    tokens = [f"\u0120w{i}" for i in range(20)]
    for view in (ag.head_view, ag.model_view):
        page = view(attention, tokens, html_action="return")
        assert page.html.startswith("<!doctype html>") and page.html.count('id="edges-') == 6
    few = ag.head_view(attention, tokens, layer=1, heads=[0, 2], html_action="return")
    assert few.html.count('id="edges-') == 2
    graph = ag.from_matrix(weights, 0.05, tokens=tokens)
    assert ag.model_view(graph, include_layers=[0], html_action="return").html.count('id="edges-') == 3
    cross = ag.head_view(
        cross_attention=[layer[None, :, :5] for layer in weights],
        encoder_tokens=tokens,
        decoder_tokens=list("abcde"),
        html_action="return",
    )
    assert cross.html.count('id="edges-') == 6
    with pytest.raises(ag.errors.ArgumentError, match="give one of"):
        ag.head_view()
    with pytest.raises(ag.errors.ArgumentError, match="needs its tokens"):
        ag.head_view(attention)
    with pytest.raises(ag.errors.ArgumentError, match="'save'"):
        ag.head_view(attention, tokens, html_action="save")


def test_queries_that_cannot_stand_among_the_keys_are_another_text():
    weights = np.random.default_rng(3).dirichlet(np.ones(3), size=(1, 5))  # five queries, three keys
    graph = ag.from_matrix(weights, 0.01, tokens=["E0", "E1", "E2"])
    for picture in (graph.plot(), graph.plot(kind="arcs")):
        said = texts(picture)
        assert [said.count(word) for word in ("E0", "E1", "E2")] == [1, 1, 1]
        assert all(str(query) in said for query in range(5))


def test_the_head_that_is_drawn_is_the_one_that_was_asked_for():
    pytest.importorskip("altair")
    pair = ag.from_matrix(np.stack([np.eye(3)[None], np.ones((1, 3, 3)) / 3]), 0.1, layout="bhqk")
    assert "9 edges" in pair.plot(batch=1).svg() and "3 edges" in pair.plot().svg()
    assert len(pair.chart(batch=1).to_dict()["data"]["values"]) == 9
    for draw in (pair.plot, pair.chart):
        with pytest.raises(ag.errors.ArgumentError, match="give a layer and a head, or neither"):
            draw(layer=0)
        with pytest.raises(ag.errors.ArgumentError, match="no slice of batch 2"):
            draw(batch=2)
