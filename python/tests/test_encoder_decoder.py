# SPDX-License-Identifier: Apache-2.0
"""Encoder-decoder models whole, their encoders alone, and position biases: graphs that say which attention they are of."""

import copy
import functools

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import attngraph as ag  # noqa: E402
from attngraph.transformers import capture  # noqa: E402
import test_transformers  # noqa: E402
from test_transformers import THRESHOLD, ids, run  # noqa: E402

# The truth is another run of the model, whose scores are larger than those of test_transformers.
assert_same = functools.partial(test_transformers.assert_same, band=1e-3)

BART = dict(
    vocab_size=97, d_model=48, encoder_layers=3, decoder_layers=3, encoder_attention_heads=4, decoder_attention_heads=4,
    encoder_ffn_dim=64, decoder_ffn_dim=64, init_std=0.3, pad_token_id=0, bos_token_id=None, eos_token_id=None,
    decoder_start_token_id=1, forced_eos_token_id=None, max_position_embeddings=128,
)  # fmt: skip
T5 = dict(
    vocab_size=97, d_model=48, d_kv=12, num_heads=4, num_layers=3, d_ff=64, pad_token_id=0,
    eos_token_id=None, decoder_start_token_id=0, initializer_factor=1.0,
)  # fmt: skip
WHISPER = dict(
    vocab_size=97, num_mel_bins=8, d_model=48, encoder_layers=3, decoder_layers=3, encoder_attention_heads=4,
    decoder_attention_heads=4, encoder_ffn_dim=64, decoder_ffn_dim=64, max_source_positions=16, max_target_positions=40,
    init_std=0.3, pad_token_id=0, bos_token_id=1, eos_token_id=None, decoder_start_token_id=1, begin_suppress_tokens=None,
)  # fmt: skip


def model_of(name, attention=None):
    torch.manual_seed(5)
    kind, config = {
        "bart": ("BartForConditionalGeneration", transformers.BartConfig(**BART)),
        "t5": ("T5ForConditionalGeneration", transformers.T5Config(**T5)),
        "whisper": ("WhisperForConditionalGeneration", transformers.WhisperConfig(**WHISPER)),
    }[name]
    model = getattr(transformers, kind)._from_config(config, attn_implementation=attention).eval()
    with torch.no_grad():  # so that a softmax is far from flat
        for path, parameter in model.named_parameters():
            if path.endswith((".q.weight", ".k.weight", "q_proj.weight")):
                parameter.mul_(2)
            if "relative_attention_bias" in path:
                parameter.normal_(0, 1.5)
    return model


def inputs_of(name, batch=2):
    if name == "whisper":
        return {"input_features": torch.randn(batch, 8, 32, generator=torch.Generator().manual_seed(2))}
    mask = torch.ones(batch, 11, dtype=torch.long)
    mask[0, 8:] = 0
    return {"input_ids": ids(batch, 11) * mask, "attention_mask": mask}


def weights_of(model, inputs, decoded):
    eager = copy.deepcopy(model)
    eager.set_attn_implementation("eager")
    output = run(eager, **inputs, decoder_input_ids=decoded, output_attentions=True, use_cache=False)
    return {"encoder": output.encoder_attentions, "decoder": output.decoder_attentions, "cross": output.cross_attentions}


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ["bart", "t5", "whisper"])
def test_one_pass_gives_three_graphs(name, attention):
    model, inputs, decoded = model_of(name, attention), inputs_of(name), ids(2, 7, seed=4)
    before = run(model, **inputs, decoder_input_ids=decoded).logits
    with capture(model, THRESHOLD) as cap:
        during = run(model, **inputs, decoder_input_ids=decoded).logits
    assert torch.equal(before, during)
    weights = weights_of(model, inputs, decoded)
    assert [g.metadata["attention"] for g in cap.graphs] == ["encoder", "decoder", "cross"]
    for kind, graph in zip(weights, (cap.encoder, cap.decoder, cap.cross)):
        assert_same(graph, weights[kind])
    with pytest.raises(ag.errors.ArgumentError, match="3 graphs are captured .cross, decoder, encoder."):
        cap.graph


@pytest.mark.parametrize("name", ["Marian", "MBart", "M2M100", "UMT5"])
def test_other_families(name):
    kind = {"Marian": "MarianMTModel"}.get(name, f"{name}ForConditionalGeneration")
    torch.manual_seed(5)
    model = getattr(transformers, kind)(getattr(transformers, f"{name}Config")(**(T5 if name == "UMT5" else BART))).eval()
    inputs, decoded = {"input_ids": ids(2, 9)}, ids(2, 7, seed=4)
    with capture(model, THRESHOLD) as cap:
        run(model, **inputs, decoder_input_ids=decoded)
    weights = weights_of(model, inputs, decoded)
    for kind, graph in zip(weights, (cap.encoder, cap.decoder, cap.cross)):
        assert_same(graph, weights[kind])


def test_layers_of_both_kinds_in_one_stack():
    """Every other layer of mllama's decoder attends to pictures, and has no attention of its own."""
    config = transformers.MllamaConfig().text_config.__class__(
        vocab_size=97, hidden_size=48, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=64, cross_attention_layers=[1, 3], pad_token_id=0,
    )  # fmt: skip
    model = transformers.MllamaForCausalLM(config).eval()
    with capture(model, THRESHOLD) as cap:
        run(model, input_ids=ids(1, 7), cross_attention_states=torch.randn(1, 5, 48))
    found = {g.metadata["attention"]: ({s.layer for s in g.slices}, g.slices[0].key_count) for g in cap.graphs}
    assert found == {"decoder": ({0, 2}, 7), "cross": ({1, 3}, 5)}


def test_inputs_with_the_same_answer_are_told_apart():
    """Two texts, whose answers are forced to be the same words: only the keys of the encoder tell their beams apart."""
    model, inputs = model_of("bart"), inputs_of("bart")
    words = {(1,): [5, 6, 7]}
    how = {"max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False, "num_beams": 3, "num_return_sequences": 2}
    with capture(model, THRESHOLD) as cap:
        during = model.generate(
            **inputs, **how, prefix_allowed_tokens_fn=lambda _, read: words.get(tuple(read.tolist()), [9])
        )
    inputs = {name: value.repeat_interleave(2, 0) for name, value in inputs.items()}
    assert {tuple(own) for own in during[:2].tolist()} == {tuple(own) for own in during[2:].tolist()}
    weights = weights_of(model, inputs, during[:, :-1])
    assert_same(cap.follow(during), weights["decoder"])
    assert_same(cap.follow(during, "cross"), weights["cross"])


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("name", ["bart", "t5", "whisper"])
def test_generation_gives_three_graphs(name, beams):
    model, inputs = model_of(name), inputs_of(name)
    how = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False, "num_beams": beams}
    before = model.generate(**inputs, **how)
    with capture(model, THRESHOLD) as cap:
        during = model.generate(**inputs, **how)
    before, during = (x if torch.is_tensor(x) else x.sequences for x in (before, during))
    assert torch.equal(before, during)
    if during[0, 0] != 1 and name == "whisper":  # it does not give its start token back
        during = torch.cat([torch.ones(2, 1, dtype=torch.long), during], 1)
    weights = weights_of(model, inputs, during[:, :-1])
    assert_same(cap.encoder, weights["encoder"])
    assert_same(cap.follow(during), weights["decoder"])
    assert_same(cap.follow(during, "cross"), weights["cross"])
    if beams == 1:
        assert_same(cap.decoder, weights["decoder"])
        assert_same(cap.cross, weights["cross"])


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ["bart", "t5", "whisper"])
def test_an_encoder_alone(name, attention):
    model, inputs = model_of(name, attention), inputs_of(name)
    encoder = model.get_encoder()
    with capture(encoder, THRESHOLD) as cap:
        run(encoder, **inputs)
    assert cap.graph.metadata["attention"] == "encoder"
    assert_same(cap.graph, weights_of(model, inputs, ids(2, 3))["encoder"])


def test_layers_and_heads_are_chosen():
    model, inputs, decoded = model_of("bart"), inputs_of("bart"), ids(2, 7, seed=4)
    with capture(model, THRESHOLD, layers=[1], heads=[0, 3]) as cap:
        run(model, **inputs, decoder_input_ids=decoded)
    weights = weights_of(model, inputs, decoded)
    for kind, graph in zip(weights, cap.graphs):
        assert_same(graph, weights[kind], layers=[1], heads=[0, 3])


def test_words_of_both_sides():
    model, inputs, decoded = model_of("t5"), inputs_of("t5", 1), ids(1, 7, seed=4)
    words = {"encoder": [f"e{n}" for n in range(11)], "decoder": [f"d{n}" for n in range(8)]}
    with capture(model, THRESHOLD, tokens=words) as cap:
        run(model, **inputs, decoder_input_ids=decoded)
    table = cap.cross.edges
    assert [f"d{n}" for n in table["query"]] == table["query_token"].tolist()
    assert [f"e{n}" for n in table["key"]] == table["key_token"].tolist()
    assert cap.encoder.tokens == words["encoder"] and cap.decoder.tokens == words["decoder"][:7]
    cap.tokens = {"other": []}
    with pytest.raises(ag.errors.ArgumentError, match="'other'"):
        cap.encoder


def test_a_tokenizer_names_both_sides():
    from test_transformers import Letters

    model, inputs, decoded = model_of("bart"), inputs_of("bart"), ids(2, 5, seed=4)
    with capture(model, THRESHOLD, tokenizer=Letters()) as cap:
        run(model, **inputs, decoder_input_ids=decoded)
    text = [[Letters().convert_ids_to_tokens(n).replace("\u0120", " ") for n in row] for row in decoded.tolist()]
    assert cap.decoder.labels("keys") == text == cap.cross.labels("queries")
    assert cap.cross.labels("keys") == cap.encoder.labels("keys")


def test_weights_of_generate_are_the_captured_graphs():
    model, inputs = model_of("bart", "eager"), inputs_of("bart")
    with capture(model, THRESHOLD) as cap:
        output = model.generate(
            **inputs, max_new_tokens=5, min_new_tokens=5, do_sample=False, num_beams=3, output_attentions=True,
            return_dict_in_generate=True,
        )  # fmt: skip
    for part in ("decoder", "cross"):
        graph = ag.from_matrix(output, THRESHOLD, part=part)
        assert not graph.diff(cap.follow(output.sequences, part), band=1e-4) and len(graph) > 100
    assert not ag.from_matrix(output, THRESHOLD, part="encoder").diff(cap.encoder, band=1e-4)


def test_a_decoder_with_cross_attention_of_its_own_kind():
    """Two models of one family put together: BERT reads, BERT writes."""
    config = dict(
        vocab_size=97, hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        initializer_range=0.3,
    )  # fmt: skip
    torch.manual_seed(3)
    encoder = transformers.BertModel(transformers.BertConfig(**config))
    decoder = transformers.BertLMHeadModel(transformers.BertConfig(**config, is_decoder=True, add_cross_attention=True))
    twins = copy.deepcopy(encoder).eval(), copy.deepcopy(decoder).eval()
    model = transformers.EncoderDecoderModel(encoder=encoder, decoder=decoder).eval()
    read, written = ids(2, 9), ids(2, 6, seed=4)
    with capture(model, THRESHOLD) as cap:
        run(model, input_ids=read, decoder_input_ids=written)
    for twin in twins:
        twin.set_attn_implementation("eager")
    first = run(twins[0], input_ids=read, output_attentions=True)
    second = run(
        twins[1], input_ids=written, encoder_hidden_states=first.last_hidden_state, output_attentions=True,
        use_cache=False,
    )  # fmt: skip
    for graph, weights in (
        (cap.encoder, first.attentions), (cap.decoder, second.attentions), (cap.cross, second.cross_attentions)
    ):  # fmt: skip
        assert_same(graph, weights)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_position_bias_is_part_of_the_scores(attention):
    torch.manual_seed(7)
    config = transformers.T5Config(**{**T5, "is_encoder_decoder": False, "use_cache": False})
    model = transformers.T5EncoderModel._from_config(config, attn_implementation=attention).eval()
    inputs = inputs_of("t5")
    with capture(model, THRESHOLD) as cap:
        run(model, **inputs)
    model.set_attn_implementation("eager")
    assert_same(cap.graph, run(model, **inputs, output_attentions=True).attentions)
    assert np.isfinite(cap.graph.rows(0, 0).logsumexp).all()
