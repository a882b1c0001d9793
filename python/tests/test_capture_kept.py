# SPDX-License-Identifier: Apache-2.0
"""What a capture keeps while a model decodes changes nothing but the work: graphs are those without, to the last bit."""

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from same import assert_identical  # noqa: E402

import attngraph as ag  # noqa: E402
from attngraph import _kept  # noqa: E402
from attngraph.transformers import capture  # noqa: E402

SIZES = {"vocab_size": 97, "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
         "intermediate_size": 64, "head_dim": 12, "initializer_range": 0.3, "pad_token_id": 0, "eos_token_id": None}  # fmt: skip


def model_of(name="Llama", **changes):
    torch.manual_seed(7)
    config = getattr(transformers, f"{name}Config")(**{**SIZES, **changes})
    return getattr(transformers, f"{name}ForCausalLM")._from_config(config).eval()


def prompt(batch=1, length=9, seed=3):
    return torch.randint(1, 97, (batch, length), generator=torch.Generator().manual_seed(seed))


WAYS = {
    "greedy": {"do_sample": False},
    "batch": {"do_sample": False, "batch": 3},
    "beams": {"do_sample": False, "num_beams": 4, "batch": 2},
    "static cache": {"do_sample": False, "cache_implementation": "static"},
    "drafts": {"do_sample": False, "prompt_lookup_num_tokens": 3},
}


@pytest.mark.parametrize("way", WAYS)
def test_graphs_are_those_without(way, monkeypatch):
    how = dict(WAYS[way])
    ids, model = prompt(how.pop("batch", 1)), model_of()
    used = []
    plain_rows = _kept.KeptLayer.rows
    monkeypatch.setattr(_kept.KeptLayer, "rows", lambda self, *a: used.append(1) or plain_rows(self, *a))
    graphs, said = [], []
    for keep in (True, False):
        torch.manual_seed(1)
        with capture(model, 0.03, keep_keys=keep, stats="entropy") as cap, torch.no_grad():
            said.append(model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=30, **how))
        assert bool(used) == keep
        used.clear()
        graphs.append(cap.graphs)
    assert torch.equal(*said)
    assert len(graphs[0]) == len(graphs[1]) == 1
    assert_identical(graphs[0][0], graphs[1][0], sums=False)


def test_two_caches_in_turn_do_not_mix():
    model = model_of()
    graphs = []
    for keep in (True, False):
        with capture(model, 0.03, keep_keys=keep) as cap, torch.no_grad():
            caches = [transformers.DynamicCache(), transformers.DynamicCache()]
            for step in range(6):
                for n, cache in enumerate(caches):
                    model(prompt(1, 5 if step == 0 else 1, seed=10 * n + step), past_key_values=cache)
        graphs.append(cap.graphs)
    assert len(graphs[0]) == len(graphs[1]) == 2
    for kept, plain in zip(*graphs):
        assert_identical(kept, plain, sums=False)


def test_positions_that_are_skipped_are_skipped_while_it_decodes():
    model, graphs = model_of(), []
    with torch.no_grad():
        model.model.layers[1].self_attn.k_proj.weight[0] = float("nan")
    for keep in (True, False):
        with capture(model, 0.03, nonfinite="skip", keep_keys=keep) as cap, torch.no_grad():
            cache = transformers.DynamicCache()
            for step in range(4):
                model(prompt(1, 5 if step == 0 else 1, seed=step), past_key_values=cache)
        graphs.append(cap.graph)
    # A kept key is counted when it comes, others in every pass that reads them.
    assert 0 < graphs[0].report.skipped_nonfinite < graphs[1].report.skipped_nonfinite
    assert_identical(*graphs, sums=False, report=False)


def test_whether_keys_are_kept_is_true_or_false():
    with pytest.raises(ag.errors.ArgumentError, match="keep_keys is 'no'; it is True or False"):
        capture(model_of(), 0.03, keep_keys="no")


def test_a_window_keeps_nothing():
    model = model_of("Mistral", sliding_window=6)
    with capture(model, 0.03) as cap, torch.no_grad():
        model.generate(prompt(), attention_mask=torch.ones(1, 9), max_new_tokens=12, do_sample=False)
        assert not cap._kept
    assert cap.graph.slices[0].query_count == 20


@pytest.mark.parametrize("tokens", [500, 10000])
def test_steps_pack_their_own_keys_alone(tokens):
    model = model_of(num_hidden_layers=2, max_position_embeddings=16384).double()
    with capture(model, 0.05) as cap, torch.no_grad():
        said = model.generate(prompt(), attention_mask=torch.ones(1, 9), max_new_tokens=tokens, do_sample=False)
        packed = [kept._session.describe()[3] for kept in cap._kept.values()]
    assert len(packed) == 2
    for written in packed:  # panels of 64 keys at most, of 2 heads of 12 doubles: not the square of the length
        assert written <= (tokens + 1) * 64 * 2 * 12 * 8
    assert cap.graph.slices[0].query_count == tokens + 8
    if tokens > 500:
        return
    # The model decodes the sequence in steps, or reads it at once: queries and keys differ by 1e-15 or so.
    with capture(model, 0.05) as once, torch.no_grad():
        model(said[:, :-1])
    difference = cap.graph.diff(once.graph, band=1e-9)
    assert not difference.only_a and not difference.only_b
    assert difference.max_weight_difference < 1e-6
