# SPDX-License-Identifier: Apache-2.0
"""The viewer's page in a real browser: what a person reads there are the graph's own numbers."""

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from selenium.webdriver import ActionChains, Keys

import attngraph as ag
from browser import Reader, needs_browser

pytestmark = needs_browser
GOLDEN = Path(__file__).resolve().parent / "golden"
WORDS = "The animal didn't cross the street because it was too tired , so it stopped there .".split()


@pytest.fixture(scope="module")
def reader():
    reader = Reader()
    yield reader
    reader.close()


def small(seed=3, heads=4):
    """A sentence with a head of noise, one that looks at the word before, one for names, one that rests on the first."""
    n, random = len(WORDS), np.random.default_rng(seed)
    matrices = []
    for head in range(heads):
        scores = 1.2 * random.normal(size=(n, n))
        scores += {1: 4 * np.eye(n, k=-1), 3: 3 * (np.arange(n) == 0)}.get(head, 0)
        if head == 2:
            scores[[7, 9, 13], 1] += (5, 3, 4)
        scores[np.triu_indices(n, 1)] = -np.inf
        weights = np.exp(scores - scores.max(1, keepdims=True))
        matrices.append(weights / weights.sum(1, keepdims=True))
    return ag.from_matrix(np.array(matrices, np.float32), 0.02, tokens=[" " + word for word in WORDS], stats="entropy")


@pytest.fixture(scope="module")
def sentence():
    return small()


@pytest.fixture(scope="module")
def sentence_page(sentence, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "sentence.html"
    sentence.to_html(path)
    return path


@pytest.fixture(scope="module")
def genesis_graph(genesis):
    tensors, facts = genesis
    import json

    layers = {5: (tensors["q.5"], tensors["k.5"]), 12: (tensors["q.12"], tensors["k.12"])}
    return ag.extract(layers, threshold=0.05, scale=float(facts["scale"]), tokens=json.loads(facts["tokens"]), stats="heads")


@pytest.fixture(scope="module")
def genesis_page(genesis_graph, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "genesis.html"
    genesis_graph.to_html(path)
    return path


def number(text):
    return float(re.sub(r"[^\d.]", "", text))


def cards(reader, kind):
    """[(weight, word)] of a list beside the text."""
    rows = reader.all(f"#pinned .{kind} li")
    return [
        (float(row.find_element("class name", "weight").text), row.find_element("class name", "word").text)
        for row in rows
    ]


def test_what_the_page_says_are_the_graphs_numbers(reader, sentence, sentence_page):
    reader.open(sentence_page, "heads=0:2")
    facts = reader.text("#facts")
    assert f"{len(sentence):,} edges" in facts and f"{len(WORDS)} queries × {len(WORDS)} keys" in facts
    assert f"{100 * sentence.report.kept_mass:.1f} %" in facts
    assert len(reader.all("#heads .thumb")) == 4
    kept = sentence.stats(0, 2).kept_mass_mean
    assert reader.text("#kept").startswith(f"keeps {100 * kept:.1f} %, {sentence.slices[2].edge_count} edges")
    assert reader.text("#chosen") == "layer 0, head 2"
    reader.quiet()


def test_a_pinned_token_shows_where_it_looks_and_who_looks_at_it(reader, sentence, sentence_page):
    reader.open(sentence_page, "heads=0:2")
    reader.one('.token[data-p="1"]').click()
    reader.wait()
    indptr, keys, weights = sentence.csr(0, 2)
    row = sorted(zip(weights[indptr[1] : indptr[2]], keys[indptr[1] : indptr[2]]), reverse=True)
    assert cards(reader, "looks") == [(pytest.approx(w, abs=0.006), WORDS[k]) for w, k in row]
    queries = np.repeat(np.arange(len(WORDS)), np.diff(indptr))
    column = sorted(((w, q) for w, q, k in zip(weights, queries, keys) if k == 1), key=lambda e: -e[0])
    assert cards(reader, "lookers") == [(pytest.approx(w, abs=0.006), WORDS[q]) for w, q in column[:12]]
    assert f"({len(column)}, together {sum(w for w, _ in column):.2f})" in reader.text("#pinned .lookers")
    entropy = sentence.rows(0, 2).entropy[1]
    assert f"entropy {entropy:.2f}" in reader.text("#pinned .looks")
    assert "animal at 1 looks at" in reader.js("return document.getElementById('live').textContent")
    assert "pin=k1" in reader.js("return location.hash")
    reader.driver.switch_to.active_element.send_keys("\ue00c")  # Escape lets go
    reader.until("document.getElementById('pinned').childElementCount === 0")
    reader.quiet()


def test_the_threshold_only_raises_and_the_kept_mass_stands_beside_it(reader, sentence, sentence_page):
    reader.open(sentence_page, "heads=0:0")
    low = reader.text("#threshold-said")
    assert float(low) == 0.02
    for step in (300, 600):
        reader.js(
            "const s = document.getElementById('threshold'); s.value = arguments[0]; s.dispatchEvent(new Event('input'))",
            step,
        )
        reader.wait()
        t = reader.js("return attngraphViewer.state.get('t')")
        part = sentence.filter(t, layers=0, heads=0)
        said = reader.text("#kept")
        assert f"{len(part)} edges" in said, said
        assert number(said.split("%")[0]) == pytest.approx(100 * part.report.kept_mass, abs=0.11)
    reader.js("const s = document.getElementById('threshold'); s.value = 0; s.dispatchEvent(new Event('input'))")
    reader.wait()
    assert f"{sentence.slices[0].edge_count} edges" in reader.text("#kept")
    reader.quiet()


def test_search_finds_words_across_tokens_and_pins_them(reader, sentence_page):
    reader.open(sentence_page)
    reader.one("#find").send_keys("it")
    reader.until("document.getElementById('found').value === '1 of 2'")
    reader.one("#find").send_keys("\n")
    reader.one("#find").send_keys("\n")
    assert reader.wait() and reader.text("#found") == "1 of 2"
    assert "“it” 7" in reader.text("#pinned h2")
    reader.one("#find").clear()
    reader.one("#find").send_keys("because it was")
    reader.until("document.getElementById('found').value === '1 of 1'")
    reader.one("#find").send_keys("giraffe")
    reader.until("document.getElementById('found').value === 'not found'")
    reader.quiet()


def wheel(reader, share_x, share_y, turns):
    """Turn the wheel over a place of the map's plot; the pair under the pointer."""
    return reader.js(
        """
        const {map} = attngraphViewer, box = map.box.getBoundingClientRect(), {plot} = map;
        const [x, y] = [plot.x + arguments[0] * plot.w, plot.y + arguments[1] * plot.h];
        for (let i = 0; i < Math.abs(arguments[2]); ++i)
          map.box.dispatchEvent(new WheelEvent('wheel', {deltaY: arguments[2] < 0 ? -120 : 120, clientX: box.left + x, clientY: box.top + y, cancelable: true}));
        const v = map.view;
        return [v.q0 + arguments[1] * (v.q1 - v.q0), v.k0 + arguments[0] * (v.k1 - v.k0), v.q1 - v.q0, v.k1 - v.k0];
        """,
        share_x, share_y, turns,
    )  # fmt: skip


def test_the_wheel_zooms_at_the_pointer_down_to_words(reader, genesis_page):
    reader.open(genesis_page, "heads=5:6")
    before = wheel(reader, 0.3, 0.6, 0)
    after = wheel(reader, 0.3, 0.6, -12)
    assert after[:2] == pytest.approx(before[:2], abs=1) and after[2] < before[2] / 20  # a pixel is two tokens
    reader.wait()
    assert "view=" in reader.until("location.hash.includes('view=') && location.hash")
    axis = reader.js(
        "const {map} = attngraphViewer, p = Math.floor(map.view.q0) + 1; return [map.word(p, true), map.view.q0]"
    )
    assert axis[0].strip()
    reader.one("#fit").click()
    reader.wait()
    assert reader.js("return attngraphViewer.state.get('view')") is None
    assert wheel(reader, 0.5, 0.5, 3)[2] == 1024  # not farther out than everything
    reader.quiet()


def test_a_budget_is_said(reader, sentence, tmp_path):
    few = sentence.filter(budget=20)
    few.to_html(tmp_path / "few.html")
    reader.open(tmp_path / "few.html")
    said = reader.text("#facts")
    assert "20 edges · weights from 0.020 · the 20 heaviest alone" in said and "of a head" not in said
    sentence.filter(head_budget=3).to_html(tmp_path / "few.html")
    reader.open(tmp_path / "few.html")
    assert "12 edges · weights from 0.020 · the 3 heaviest of a head alone" in reader.text("#facts")


def test_one_edge_among_many_is_found_by_zooming(reader, lonely_graph, tmp_path):
    lonely_graph.to_html(tmp_path / "lonely.html")
    reader.open(tmp_path / "lonely.html")
    turns, tip = reader.find_lonely([0, 9_000, 12_000, 20_000])
    assert turns > 5 and "0.50" in tip and "“w700” 700 → “w15000” 15,000" in tip
    reader.quiet()


def test_a_newcomer_is_told_what_to_do_and_shown_it_under_the_pointer(reader, sentence, sentence_page):
    reader.open(sentence_page, "heads=0:2")
    said = reader.text("#hint")
    assert "Point at a word" in said and "Click to pin it" in said
    ActionChains(reader.driver).move_to_element(reader.one('.token[data-p="7"]')).perform()
    reader.until("document.getElementById('hint').textContent.includes('looks most at')")
    indptr, keys, weights = sentence.csr(0, 2)
    row = slice(indptr[7], indptr[8])
    best = np.argmax(weights[row])
    assert f"“it” 7 looks most at “{WORDS[keys[row][best]]}” {keys[row][best]} ({weights[row][best]:.2f})" in reader.text("#hint")
    assert reader.one('.token[data-p="7"]').value_of_css_property("outline-style") == "solid"
    ActionChains(reader.driver).move_to_element(reader.one("#chosen")).perform()
    reader.until("document.getElementById('hint').textContent.includes('Point at a word')")
    assert reader.text("#hint") == said
    reader.quiet()


def test_the_keyboard_reaches_all_of_it(reader, sentence_page):
    reader.open(sentence_page, "heads=0:2")
    reader.one("#text").send_keys(Keys.ARROW_RIGHT)  # the first token in sight, then the next
    reader.until("attngraphViewer.state.get('pin') === 'k0'")
    for key, pin in ((Keys.ARROW_RIGHT, "k1"), (Keys.ARROW_RIGHT, "k2"), (Keys.ARROW_LEFT, "k1")):
        reader.one("#text").send_keys(key)
        assert reader.js("return attngraphViewer.state.get('pin')") == pin
    reader.wait()
    assert "“animal” 1" in reader.text("#pinned h2")
    body = reader.one("body")
    body.send_keys("?")
    assert reader.one("#help").is_displayed()
    body.send_keys(Keys.ESCAPE)  # closes the help; the pin stays
    assert not reader.one("#help").is_displayed() and reader.js("return attngraphViewer.state.get('pin')") == "k1"
    body.send_keys(Keys.ESCAPE)
    assert reader.js("return attngraphViewer.state.get('pin')") is None
    body.send_keys("]")
    assert reader.js("return attngraphViewer.state.get('heads')") == ["0:3"]
    body.send_keys("[")
    body.send_keys("a")
    reader.wait()
    assert reader.one("#arcs").is_displayed() and reader.one("#arc-picture").get_attribute("aria-label").startswith("Arcs")
    body.send_keys("m")
    reader.one("#map").send_keys("+", "+", Keys.ARROW_DOWN)
    reader.wait()
    view = reader.js("return attngraphViewer.map.view")
    assert view["q1"] - view["q0"] < 9 and view["q0"] > 3
    reader.one("#map").send_keys("0")
    assert reader.js("return attngraphViewer.state.get('view')") is None
    body.send_keys("/")
    assert reader.js("return document.activeElement.id") == "find"
    reader.quiet()


@pytest.mark.parametrize("width, height", [(1280, 800), (800, 900), (400, 800)])
def test_nothing_is_cut_off_in_a_narrow_window(reader, genesis_page, width, height):
    reader.open(genesis_page, "heads=5:6,12:3&pin=k300")
    reader.size(width, height)
    reader.wait()
    outside = reader.js(
        """
        const wide = document.documentElement.clientWidth, out = [];
        if (document.documentElement.scrollWidth > wide) out.push(`the page is ${document.documentElement.scrollWidth} wide`);
        for (const e of document.querySelectorAll('header *, .tools *, .thumb, #hint, #pinned button')) {
          const r = e.getBoundingClientRect(), own = e.closest('section, header').getBoundingClientRect();
          if (r.width > 1 && (r.left < own.left - 1 || r.right > own.right + 1)) out.push(e.id || e.className || e.tagName);
        }
        return out;
        """
    )
    reader.size(1440, 900)
    assert outside == []
    reader.quiet()


def test_every_edge_is_in_the_picture(reader, genesis_graph, genesis_page):
    """The cells of the map, read back from its pixels, are those of the edges; at every zoom."""
    reader.open(genesis_page, "heads=5:6")
    for view in (None, [100, 400, 0, 300], [301.5, 330.25, 270, 300]):
        reader.state(view=view, t=0)
        grid = reader.js("return attngraphViewer.map.last.grid")
        rows, columns = int(grid["rows"]), int(grid["columns"])
        lit = reader.js(
            "const c = attngraphViewer.map.last.canvas, d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
            "const lit = []; for (let i = 3; i < d.length; i += 4) if (d[i]) lit.push((i - 3) / 4); return lit"
        )
        indptr, keys, _ = genesis_graph.csr(5, 6)
        queries = np.repeat(np.arange(1024), np.diff(indptr))
        inside = (queries >= grid["q0"]) & (queries < grid["q1"]) & (keys >= grid["k0"]) & (keys < grid["k1"])
        y = np.floor((queries[inside] - grid["q0"]) * (rows / (grid["q1"] - grid["q0"]))).astype(int)
        x = np.floor((keys[inside] - grid["k0"]) * (columns / (grid["k1"] - grid["k0"]))).astype(int)
        want = np.unique(np.minimum(y, rows - 1) * columns + np.minimum(x, columns - 1))
        assert len(set(lit) ^ set(want.tolist())) <= len(want) // 500  # cells whose border falls on a token
        assert len(want) > 20
    reader.quiet()


def test_the_tip_names_the_edge_under_the_pointer(reader, genesis_graph, genesis_page):
    reader.open(genesis_page, "heads=5:6&view=310,340,270,300")
    reader.js(
        """const {map} = attngraphViewer, box = map.box.getBoundingClientRect(), {plot, view} = map;
        const x = plot.x + (283.5 - view.k0) / (view.k1 - view.k0) * plot.w, y = plot.y + (325.5 - view.q0) / (view.q1 - view.q0) * plot.h;
        map.box.dispatchEvent(new PointerEvent('pointermove', {clientX: box.left + x, clientY: box.top + y}));"""
    )
    reader.until("!document.getElementById('tip').hidden")
    weight = {(e.query, e.key): e.weight for e in genesis_graph.filter(layers=5, heads=6).top(200)}[325, 283]
    said = reader.text("#tip")
    assert f"{weight:.2f}" in said and "“grass” 325 → “grass” 283" in said
    kept = genesis_graph.rows(5, 6).kept_mass[325]
    assert f"query 325 keeps {100 * kept:.1f} %" in said
    reader.quiet()


def test_heads_are_chosen_sorted_filtered_and_combined(reader, genesis_graph, genesis_page):
    reader.open(genesis_page)
    reader.state(sort="first")
    names = [thumb.get_attribute("data-name") for thumb in reader.all("#heads .thumb")]
    first = {f"{s.layer}:{s.head}": genesis_graph.stats(s.layer, s.head).first_share for s in genesis_graph.slices}
    assert names == sorted(first, key=lambda name: -first[name])
    reader.state(sort="induction")
    table = genesis_graph.heads()
    best = int(np.argmax(table["induction_share"]))
    shown = reader.one("#heads .thumb")
    assert shown.get_attribute("data-name") == f"{table['layer'][best]}:{table['head'][best]}"
    assert shown.text.endswith(f"{100 * table['induction_share'][best]:.1f} %")
    reader.state(sort="first")
    reader.one("#least").send_keys("30 %")
    reader.wait()
    assert len(reader.all("#heads .thumb")) == sum(share >= 0.3 for share in first.values())
    reader.state(sort="layer", least="", heads=["5:0", "5:6"], combine="sum")
    facts = reader.wait_js("attngraphViewer.page.client.ask('row', {query: 500})")
    joined = genesis_graph.filter(layers=5, heads=[0, 6]).aggregate("sum")
    indptr, keys, weights = joined.csr(5, 0)
    assert facts["keys"] == keys[indptr[500] : indptr[501]].tolist()
    assert facts["weights"] == pytest.approx(weights[indptr[500] : indptr[501]].tolist(), rel=1e-3)
    assert reader.text("#chosen") == "5:0 + 5:6"
    thumb = reader.one('.thumb[data-name="12:3"]')
    thumb.click()
    reader.wait()
    assert reader.text("#chosen") == "layer 12, head 3"
    thumb.send_keys("\ue014")  # right
    assert reader.js("return document.activeElement.dataset.name") == "12:4"
    reader.quiet()


def test_a_link_restores_what_was_seen(reader, genesis_page):
    link = "heads=12:8,5:1&combine=max&t=0.2&view=100,200,50,150&pin=k120&first=1&theme=dark&how=share"
    reader.open(genesis_page, link)
    state = reader.js("return attngraphViewer.state.values")
    assert (state["heads"], state["combine"], state["t"], state["view"]) == (
        ["12:8", "5:1"],
        "max",
        0.2,
        [100, 200, 50, 150],
    )
    assert reader.js("return document.documentElement.dataset.theme") == "dark"
    assert "120" in reader.text("#pinned h2")
    reader.state(diagonal=True)
    again = reader.js("return location.hash")
    reader.open(genesis_page, again[1:])
    assert reader.js("return attngraphViewer.state.values") == {**state, "diagonal": True}
    reader.open(genesis_page, "heads=99:1&t=abc&view=1&pin=%&panel=x&batch=7")  # a bad link harms nothing
    assert reader.text("#chosen").startswith("layer")
    reader.quiet()


def test_pictures_of_what_is_seen(reader, sentence_page):
    reader.open(sentence_page, "heads=0:1")
    for panel in ("map", "arcs"):
        reader.state(panel=panel)
        svg = ElementTree.fromstring(reader.js("return attngraphViewer.svg()"))
        texts = [element.text for element in svg.iter("{http://www.w3.org/2000/svg}text")]
        assert {"animal", "street", "tired"} <= set(texts)
        assert any("threshold 0.02" in text for text in texts)
        png = reader.wait_js(
            "attngraphViewer.png().then((b) => b.arrayBuffer()).then((b) => [...new Uint8Array(b.slice(0, 24)), b.byteLength])"
        )
        assert bytes(png[:8]) == b"\x89PNG\r\n\x1a\n" and png[-1] > 5000
    arcs = list(svg.iter("{http://www.w3.org/2000/svg}path"))
    assert len(arcs) > 20
    reader.quiet()


EVIL = [
    "</script><script>document.title='owned'</script>", "<img src=x onerror=document.title='owned'>", "<!--", "-->",
    "\u202eevil", "a" * 1_000_000, "", "\x00\x1b[2J", "]]>", "javascript:alert(1)", "'\"`${1}", "\ud83d",
]  # fmt: skip


def test_tokens_cannot_break_out_of_the_page(reader, tmp_path):
    n = len(EVIL)
    tokens = [word.encode("utf-8", "surrogatepass") for word in EVIL]
    graph = ag.from_matrix(np.tril(np.full((n, n), 0.3)), 0.1, tokens=tokens)
    graph.to_html(tmp_path / "evil.html")
    assert (tmp_path / "evil.html").stat().st_size < 400_000
    reader.open(tmp_path / "evil.html", "pin=k0")
    assert reader.driver.title != "owned" and not reader.all("img")
    assert "</script><script>" in reader.text("#text")
    assert reader.js("return document.querySelectorAll('script:not([type])').length") == 0
    ElementTree.fromstring(reader.js("return attngraphViewer.svg()"))
    reader.quiet()


@pytest.mark.parametrize(
    "name, matrix, tokens, said",
    [
        ("no edge", np.full((6, 6), 0.01), list("abcdef"), "has no edge"),
        ("no token", np.tril(np.full((6, 6), 0.3)), None, ""),
        ("one row", np.array([[0.2, 0.3, 0.5]]), None, ""),
        ("one pair", np.array([[1.0]]), ["x"], ""),
        ("no row", np.zeros((0, 4)), None, "has no edge"),
        ("no head", np.zeros((0, 4, 4)), None, "has no head"),
    ],
)
def test_odd_graphs(reader, tmp_path, name, matrix, tokens, said):
    graph = ag.from_matrix(matrix, 0.1, tokens=tokens)
    graph.to_html(tmp_path / "odd.html")
    if graph.slices:
        reader.open(tmp_path / "odd.html", "panel=arcs")
        reader.state(panel="map")
    else:
        reader.driver.get(f"file://{tmp_path}/odd.html")
        reader.until("document.getElementById('problem').textContent.includes('no head')")
    assert said in reader.text("#problem") and bool(said) == bool(reader.text("#problem"))
    reader.quiet()


def test_a_file_cut_short_says_so(reader, genesis_page, tmp_path):
    whole = genesis_page.read_bytes()
    places = [
        whole.index(b'id="graph"') + 40,
        whole.index(b'id="edges-3"') + 400,
        len(whole) - 60,
        whole.index(b"<style>") - 5,
    ]
    for place in places:
        (tmp_path / "cut.html").write_bytes(whole[:place])
        reader.driver.get("about:blank")
        reader.driver.get(f"file://{tmp_path}/cut.html")
        if place > whole.index(b"</body>") - 1_000_000 and place > whole.index(b'type="module"'):
            reader.until("document.getElementById('problem').textContent.includes('cut short')")
        # Cut before its first script there is nothing that could speak; nothing may break, either.
    damaged = bytearray(whole)
    at = whole.index(b'id="edges-0">') + 60
    damaged[at : at + 200] = b"A" * 200
    (tmp_path / "cut.html").write_bytes(damaged)
    reader.driver.get("about:blank")
    reader.driver.get(f"file://{tmp_path}/cut.html#heads=5:0")
    reader.until("document.getElementById('problem').textContent.includes('damaged')")


def test_two_texts_batches_and_query_ranges(reader, tmp_path):
    random = np.random.default_rng(5)
    cross = random.dirichlet(np.ones(5) * 0.4, size=(2, 1, 3))  # [B, H, 3 queries, 5 keys]
    graph = ag.from_matrix(cross, 0.2, tokens=[f"E{i}" for i in range(5)], layout="bhqk")
    graph.to_html(tmp_path / "cross.html", query_tokens=["D0", "D1", "D2"])
    reader.open(tmp_path / "cross.html", "batch=1&pin=q2")
    assert [h.text for h in reader.all("#text h2")] == ["Queries", "Keys"]
    assert "“D2” 2" in reader.text("#pinned h2")
    indptr, keys, weights = graph.csr(0, 0, batch=1)
    want = sorted(zip(weights[indptr[2] :], keys[indptr[2] :]), reverse=True)
    assert cards(reader, "looks") == [(pytest.approx(w, abs=0.006), f"E{k}") for w, k in want]
    assert reader.one("#batch").is_displayed()
    reader.state(panel="arcs")
    reader.quiet()

    # Two texts without the words of one: said so by the fact, or because the queries cannot stand among the keys.
    parts = [(slice_, ag.Csr(*graph.csr(0, 0, batch=slice_.batch))) for slice_ in graph.slices[:1]]
    alone = ag.from_slices(parts, tokens=[f"E{i}" for i in range(5)], metadata={"attention": "cross"})
    more = ag.from_matrix(random.dirichlet(np.ones(3), size=(1, 5)), 0.2, tokens=["E0", "E1", "E2"])
    for name, graph in (("alone", alone), ("more", more)):
        graph.to_html(tmp_path / f"{name}.html")
        reader.open(tmp_path / f"{name}.html", "pin=q2&panel=arcs")
        assert [h.text for h in reader.all("#text h2")] == ["Queries", "Keys"]
        assert reader.text("#pinned h2") == "position 2" and reader.text("#pinned .looks .word").startswith("E")
        assert reader.text('.token[data-side="q"][data-p="2"]') == "2"
        reader.quiet()

    whole = np.tril(random.dirichlet(np.ones(12), size=12))
    parts = [ag.from_matrix(whole, 0.05, query_range=r) for r in [(0, 4), (9, 12)]]
    sink = ag._native.Sink.collect()
    for part in parts:
        part._result.write(sink)
    ranges = ag.Graph(sink.take_result())
    assert len(ranges.slices) == 2
    ranges.to_html(tmp_path / "ranges.html")
    reader.open(tmp_path / "ranges.html")
    assert len(reader.all("#heads .thumb")) == 1
    for query in (2, 6, 10):
        row = reader.wait_js(f"attngraphViewer.page.client.ask('row', {{query: {query}}})")
        assert row["keys"] == ([] if query == 6 else np.flatnonzero(whole[query] >= 0.05).tolist())
    reader.quiet()


def test_the_page_works_in_a_notebooks_frame(reader, sentence, tmp_path):
    """As a cell's output, twice on one page, in frames that have no address."""
    frames = sentence.view(height=500)._repr_html_() + sentence.view(height=500)._repr_html_()
    (tmp_path / "notebook.html").write_text(f"<!doctype html><meta charset=utf-8><body>{frames}", encoding="utf-8")
    reader.driver.get(f"file://{tmp_path}/notebook.html")
    for frame in reader.all("iframe"):
        reader.driver.switch_to.frame(frame)
        reader.wait()
        assert reader.text("#kept").startswith("keeps")
        reader.one('.token[data-p="3"]').click()
        reader.until("document.querySelector('#pinned h2')")
        reader.driver.switch_to.default_content()
    reader.quiet()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name, link", [("sentence", "heads=0:2&pin=k7"), ("genesis", "heads=5:6")])
def test_the_page_looks_as_it_did(reader, request, theme, name, link):
    reader.theme(theme)
    reader.size(1440, 900)
    reader.open(request.getfixturevalue(f"{name}_page"), link)
    seen = reader.screenshot()
    reader.theme("light")
    golden = GOLDEN / f"{name}-{theme}.png"
    if not golden.exists():
        golden.parent.mkdir(exist_ok=True)
        golden.write_bytes(reader.shrunk(seen))
        pytest.fail(f"{golden} was not there; look at what was written, and keep it")
    assert reader.difference(seen, golden.read_bytes()) < 4
