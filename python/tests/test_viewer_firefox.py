# SPDX-License-Identifier: Apache-2.0
"""The viewer's page in Firefox: the same numbers, and the same doors, as in Chromium (test_viewer.py)."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

import attngraph as ag
from firefox import FirefoxReader, needs_firefox

pytestmark = needs_firefox
WORDS = "The animal didn't cross the street because it was too tired".split()


@pytest.fixture(scope="module")
def reader():
    reader = FirefoxReader()
    yield reader
    reader.close()


@pytest.fixture(scope="module")
def graph():
    n = len(WORDS)
    scores = np.where(np.tril(np.ones((n, n))) > 0, 2 * np.random.default_rng(7).normal(size=(3, n, n)), -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return ag.from_matrix(weights.astype(np.float32), 0.02, tokens=[f" {word}" for word in WORDS], stats="entropy")


@pytest.fixture(scope="module")
def page(graph, tmp_path_factory):
    path = tmp_path_factory.mktemp("firefox") / "page.html"
    graph.to_html(path)
    return path


def test_a_pinned_token_shows_the_graphs_numbers(reader, graph, page):
    reader.open(page, "heads=0:1")
    assert reader.text("#kept").startswith(f"keeps {100 * graph.stats(0, 1).kept_mass_mean:.1f} %")
    reader.click('.token[data-p="7"]')
    reader.until("document.querySelector('#pinned h2') !== null")
    assert "“it” 7" in reader.text("#pinned h2")
    indptr, keys, weights = graph.csr(0, 1)
    row = sorted(zip(weights[indptr[7] : indptr[8]], keys[indptr[7] : indptr[8]]), reverse=True)
    shown = reader.js("return [...document.querySelectorAll('#pinned .looks .weight')].map((e) => +e.textContent)")
    assert shown == pytest.approx([w for w, _ in row], abs=0.006)
    reader.click("#text")
    reader.press(["\ue014"])  # right: the word after
    reader.wait()
    assert "“was” 8" in reader.text("#pinned h2")
    reader.press(["\ue00c"])  # Escape
    reader.until("document.getElementById('pinned').childElementCount === 0")
    reader.quiet()


def test_search_threshold_and_exports(reader, graph, page):
    reader.open(page, "heads=0:2&find=because it")
    assert reader.text("#found") == "1 of 1"
    reader.state(t=0.2)
    assert f"{len(graph.filter(0.2, heads=2))} edges" in reader.text("#kept")
    for panel in ("map", "arcs"):
        reader.state(panel=panel)
        svg = ElementTree.fromstring(reader.js("return attngraphViewer.svg()"))
        assert {"animal", "tired"} <= {text.text for text in svg.iter("{http://www.w3.org/2000/svg}text")}
        png = reader.wait_js("attngraphViewer.png().then((b) => b.arrayBuffer()).then((b) => [...new Uint8Array(b.slice(0, 8))])")
        assert bytes(png) == b"\x89PNG\r\n\x1a\n"
    reader.quiet()


def test_one_edge_among_many_is_found_by_zooming(reader, lonely_graph, tmp_path):
    lonely_graph.to_html(tmp_path / "lonely.html")
    reader.open(tmp_path / "lonely.html")
    turns, tip = reader.find_lonely([0, 9_000, 12_000, 20_000])
    assert turns > 5 and "0.50" in tip and "“w700” 700 → “w15000” 15,000" in tip
    reader.quiet()
