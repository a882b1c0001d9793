# SPDX-License-Identifier: Apache-2.0
"""Models of several parts, an image encoder before a decoder: what each part's attention is called, and what it saw."""

import copy

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import attngraph as ag  # noqa: E402
from attngraph.transformers import capture  # noqa: E402
from test_transformers import THRESHOLD, assert_same, build, ids, run  # noqa: E402

SIZES = dict(hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, initializer_range=0.3)
TEXT = dict(SIZES, num_key_value_heads=2, pad_token_id=0, bos_token_id=1, eos_token_id=None)
IMAGES = dict(SIZES, image_size=16, patch_size=4)


def made(name, **config):
    torch.manual_seed(5)
    return getattr(transformers, f"{name}ForConditionalGeneration")(getattr(transformers, f"{name}Config")(**config)).eval()


def pixels(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def test_a_decoder_that_sees_its_whole_prompt_is_a_decoder():
    text = dict(TEXT, model_type="gemma", vocab_size=99, head_dim=12)
    model = made("PaliGemma", text_config=text, vision_config=dict(IMAGES, model_type="siglip_vision_model"),
                 image_token_index=98, projection_dim=48)  # fmt: skip
    prompt = ids(2, 22)
    prompt[:, :16] = 98
    inputs = {"input_ids": prompt, "attention_mask": torch.ones_like(prompt), "token_type_ids": torch.zeros_like(prompt),
              "pixel_values": pixels(2, 3, 16, 16)}  # fmt: skip
    with capture(model, THRESHOLD) as cap:
        model.generate(**inputs, max_new_tokens=5, min_new_tokens=5, do_sample=False)
    assert [g.metadata["attention"] for g in cap.graphs] == ["encoder", "decoder"]
    eager = copy.deepcopy(model)
    eager.set_attn_implementation("eager")
    want = run(eager, **inputs, output_attentions=True).attentions
    assert cap.decoder.slices[0].query_count == 26
    later = [torch.nn.functional.pad(weights, (0, 4)) for weights in want]  # keys that the prompt does not see
    assert_same(cap.decoder.filter(queries=(0, 22)), later)
    ahead = cap.decoder.filter(queries=(0, 22)).edges
    assert (ahead["key"] > ahead["query"]).any()


def test_cross_attention_that_later_steps_find_in_the_cache():
    text = dict(TEXT, model_type="mllama_text_model", vocab_size=97, num_hidden_layers=4, cross_attention_layers=[1],
                rope_parameters=dict(rope_type="default", rope_theta=1e4))  # fmt: skip
    images = dict(hidden_size=48, num_hidden_layers=2, num_global_layers=1, attention_heads=4, intermediate_size=64,
                  image_size=16, patch_size=4, vision_output_dim=96, intermediate_layers_indices=[1], max_num_tiles=1,
                  supported_aspect_ratios=[[1, 1]])  # fmt: skip
    model = made("Mllama", text_config=text, vision_config=images, image_token_index=96)
    with torch.no_grad():  # gates begin closed
        for name, parameter in model.named_parameters():
            if "gate" in name:
                parameter.fill_(0.5)
    prompt = ids(1, 9)
    prompt[0, 1] = 96
    one = torch.ones(1, 1, dtype=torch.long)
    inputs = {"pixel_values": pixels(1, 1, 1, 3, 16, 16), "aspect_ratio_ids": one, "aspect_ratio_mask": one[None]}
    with capture(model, THRESHOLD) as cap:
        said = model.generate(
            input_ids=prompt, attention_mask=torch.ones_like(prompt), cross_attention_mask=torch.ones(1, 9, 1, 1), **inputs,
            max_new_tokens=5, min_new_tokens=5, do_sample=False,
        )  # fmt: skip
    assert [g.metadata["attention"] for g in cap.graphs] == ["encoder", "encoder", "decoder", "cross"]
    with capture(model, THRESHOLD) as whole:
        run(model, input_ids=said[:, :-1], cross_attention_mask=torch.ones(1, 13, 1, 1), **inputs)
    for got, want in ((cap.decoder, whole.decoder), (cap.cross, whole.cross)):
        assert got.slices[0].query_count == 13 and {s.layer for s in got.slices} == {s.layer for s in want.slices}
        difference = got.diff(want, band=1e-3)
        assert not difference and difference.common and difference.max_weight_difference < 1e-3


def test_keys_that_were_made_fewer_are_refused():
    torch.manual_seed(5)
    model = transformers.SegformerModel(transformers.SegformerConfig(
        depths=[1, 1], num_encoder_blocks=2, sr_ratios=[2, 1], hidden_sizes=[12, 24], patch_sizes=[3, 3], strides=[2, 2],
        num_attention_heads=[2, 4], mlp_ratios=[2, 2])).eval()  # fmt: skip
    with pytest.raises(ag.errors.UnsupportedError, match="attends from 64 queries to 16 keys"), capture(model, THRESHOLD):
        run(model, pixel_values=pixels(1, 3, 16, 16))


def test_what_there_is_is_said_where_something_is_not():
    model = build("Llama")
    with capture(model, THRESHOLD) as cap:
        run(model, input_ids=ids(1, 9))
        run(model, input_ids=ids(1, 5))
    with pytest.raises(ag.errors.NotFoundError, match="no graphs of an encoder; captured are those of: decoder"):
        cap.encoder  # noqa: B018
    with pytest.raises(ag.errors.ArgumentError, match="2 graphs of a decoder .* take one of .graphs$"):
        cap.decoder  # noqa: B018


def test_a_model_is_not_copied_while_it_is_listened_to():
    model = build("Llama")
    with capture(model, THRESHOLD) as cap, pytest.raises(ag.errors.UnsupportedError, match="cannot be copied or pickled"):
        copy.deepcopy(model)
    assert run(copy.deepcopy(model), input_ids=ids(1, 5)).logits.shape == (1, 5, 97)
    with pytest.raises(ag.errors.UnsupportedError, match="cannot be copied"):
        copy.copy(cap)


def test_another_attention_inside_of_the_block_is_told():
    model = build("Llama")
    with pytest.raises(ag.errors.UnsupportedError, match="was changed inside the with block"), capture(model, THRESHOLD):
        model.set_attn_implementation("eager")
        run(model, input_ids=ids(1, 5))


def test_heads_and_words_may_be_of_any_kind():
    model, inputs = build("Llama"), ids(2, 9)
    for heads in (iter([0, 3]), {0, 3}, torch.tensor([True, False, False, True])):
        with capture(model, THRESHOLD, heads=heads) as cap:
            run(model, input_ids=inputs)
        assert {(s.layer, s.head) for s in cap.graph.slices} == {(layer, head) for layer in range(3) for head in (0, 3)}
    for tokens in ("abcdefghi", {str(n): n for n in range(9)}):
        cap.tokens = tokens
        with pytest.raises(ag.Error):
            cap.graph  # noqa: B018
    words = [[None, 0, 0, 1, 1, 1, 2, 2, None]] * 2
    with capture(model, THRESHOLD, stats="heads", token_ids=inputs, word_ids=words) as cap:
        run(model, input_ids=inputs)
    assert "same_word_share" in cap.graph.heads().columns
