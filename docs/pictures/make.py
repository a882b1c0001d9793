#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The pictures of docs/viewer.md and README.md, made anew: docs/pictures/make.py

Needs the installed package, Chromium and chromedriver, selenium and Pillow; reads data/genesis-1k.safetensors.
"""

import io
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import attngraph as ag

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT / "python" / "tests"))
from browser import Reader  # noqa: E402
from conftest import read_safetensors  # noqa: E402

MOST_BYTES = 200_000
VIEWS = {  # name: (page, theme, link)
    "viewer-light": ("genesis", "light", "heads=5:6&pin=k325"),
    "viewer-dark": ("genesis", "dark", "heads=5:6&view=296,326,266,296&pin=k325"),
    "viewer-arcs": ("genesis", "light", "heads=5:6&panel=arcs&range=283,327&first=1&pin=k325"),
    "viewer-cross": ("cross", "light", "heads=0:1&panel=arcs&pin=q8"),
}


def genesis():
    tensors, facts = read_safetensors(ROOT / "data" / "genesis-1k.safetensors")
    layers = {5: (tensors["q.5"], tensors["k.5"]), 12: (tensors["q.12"], tensors["k.12"])}
    graph = ag.extract(
        layers, threshold=0.05, scale=float(facts["scale"]), tokens=json.loads(facts["tokens"]), stats="heads"
    )
    return graph


def cross():
    """A made translation: two texts, two heads; the second looks at the word that it translates."""
    keys, queries = "The cat sat on the mat because it was tired .".split(), "Die Katze saß auf der Matte , weil sie müde war .".split()
    aligned = [0, 1, 2, 3, 4, 5, 6, 6, 7, 9, 8, 10]
    scores = np.random.default_rng(1).normal(size=(2, len(queries), len(keys)))
    scores[1, np.arange(len(queries)), aligned] += 4
    weights = np.exp(scores)
    weights /= weights.sum(-1, keepdims=True)
    spaced = lambda words: [f" {word}" for word in words]
    return ag.from_matrix(weights.astype(np.float32), 0.05, tokens=spaced(keys), query_tokens=spaced(queries))


def main():
    reader = Reader(1280, 800)
    with tempfile.TemporaryDirectory() as folder:
        for name, graph in (("genesis", genesis()), ("cross", cross())):
            graph.to_html(Path(folder) / f"{name}.html")
        for name, (page, theme, link) in VIEWS.items():
            reader.theme(theme)
            reader.open(Path(folder) / f"{page}.html", link)
            out = HERE / f"{name}.png"
            Image.open(io.BytesIO(reader.screenshot())).convert("RGB").quantize(96).save(out, optimize=True)
            assert out.stat().st_size < MOST_BYTES, out
            print(out.relative_to(ROOT), out.stat().st_size)
    reader.close()


if __name__ == "__main__":
    main()
