# SPDX-License-Identifier: Apache-2.0
"""Files as vLLM-Hook writes them, made here: their graphs are those of the queries and keys that went in."""

import json

import numpy as np
import pytest

import attngraph as ag
from attngraph._ggml import to_bfloat16
from attngraph.vllm_hook import read

HQ, HKV, D, LAYERS = 4, 2, 16, (3, 7)
CONFIG = {
    "num_attention_heads": HQ, "num_key_value_heads": HKV, "hidden_size": HQ * D, "head_dim": D,
    "attention_multiplier": 0.31,
}  # fmt: skip
LENGTHS = (9, 14)
MODULE = "model.layers.{}.self_attn.attn"


def data(seed=0):
    """{layer: [(q, k) of every sequence]}, rows as vLLM has them: heads side by side."""
    rng = np.random.default_rng(seed)

    def rows(n, heads):
        return rng.standard_normal((n, heads * D)).astype(np.float16)

    return {layer: [(rows(n, HQ), rows(n, HKV)) for n in LENGTHS] for layer in LAYERS}


def expected(made, sequence, first=0, **how):
    def heads(rows, count):
        return rows.reshape(len(rows), count, D).transpose(1, 0, 2)

    pairs = {la: (heads(made[la][sequence][0][first:], HQ), heads(made[la][sequence][1], HKV)) for la in made}
    return ag.extract(pairs, threshold=0.05, **{"scale": 0.31, **how})


def write(folder, tensors, facts, bfloat16=False):
    folder.mkdir(parents=True, exist_ok=True)
    header, body = {}, b""
    for name, array in tensors.items():
        kind = "BF16" if bfloat16 else {"float16": "F16", "float32": "F32"}[array.dtype.name]
        data = array.tobytes()
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    (folder / "qk.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + body)
    (folder / "qk.json").write_text(json.dumps({"config": CONFIG, "hookq_mode": "all_tokens", "tp_rank": 0, **facts}))
    return folder


def key(layer, which):
    return MODULE.format(layer).replace(".", "__") + "__" + which


def order(mode="all_tokens"):
    return [
        {
            "key_q": key(la, "q"),
            "key_k": key(la, "k"),
            "module_name": MODULE.format(la),
            "layer_num": la,
            "hookq_mode": mode,
        }
        for la in LAYERS
    ]


def padded(parts):
    out = np.full((len(parts), max(map(len, parts)), parts[0].shape[1]), 9, parts[0].dtype)
    for row, part in zip(out, parts):
        row[: len(part)] = part
    return out


def side_by_side(folder, made, **facts):
    tensors = {}
    for layer, sequences in made.items():
        tensors[key(layer, "q")] = padded([q for q, _ in sequences])
        tensors[key(layer, "k")] = padded([k for _, k in sequences])
    lengths = {"q_seq_lens": list(LENGTHS), "k_seq_lens": list(LENGTHS)}
    return write(folder, tensors, {"layer_order": order(), **lengths, **facts})


def compact(folder, made, steps=(6, 2, 1), bfloat16=False):
    """One key sequence per request, and how long it was at every pass: a prompt and what was decoded after it."""
    ends = [[n - 3, n - 1, n] for n in LENGTHS]
    tensors = {}
    for layer, sequences in made.items():
        tensors[key(layer, "q")] = np.concatenate([q for q, _ in sequences])
        tensors[key(layer, "k")] = np.concatenate([k for _, k in sequences])
    counts = [c for n in LENGTHS for c in (n - 3, 2, 1)]
    facts = {"compact_all_tokens": True, "q_seq_lens": counts, "k_full_lens": list(LENGTHS), "k_prefix_ends": ends}
    return write(folder, tensors, {"layer_order": order(), **facts}, bfloat16)


def test_padded_passes(tmp_path):
    made = data()
    for path in (side_by_side(tmp_path, made), tmp_path / "qk.safetensors"):
        graphs = read(path)
        assert len(graphs) == 2
        for i, graph in enumerate(graphs):
            assert not graph.diff(expected(made, i)) and len(graph) > 50
            assert {s.layer for s in graph.slices} == set(LAYERS)


def test_passes_of_a_sequence_become_one_graph(tmp_path):
    made = data()
    for i, graph in enumerate(read(compact(tmp_path, made))):
        assert not graph.diff(expected(made, i), band=1e-6)
        assert all((s.query_begin, s.query_count) == (0, LENGTHS[i]) for s in graph.slices)


@pytest.mark.parametrize("form", [side_by_side, compact])
def test_statistics_are_of_all_attention(tmp_path, form):
    made, ids = data(), [np.arange(n) % 4 for n in LENGTHS]
    for i, graph in enumerate(read(form(tmp_path, made), stats="heads", token_ids=ids)):
        found, want = graph.heads(), expected(made, i, stats="heads", token_ids=ids[i]).heads()
        assert found.columns == want.columns and {"induction_share", "heaviest_share", "entropy"} <= set(found.columns)
        for name in want.columns:
            np.testing.assert_allclose(found[name], want[name], rtol=1e-5, atol=1e-7, err_msg=name)
    with pytest.raises(ag.errors.NotFoundError, match="stats=\"heads\""):
        read(tmp_path)[0].heads()


def test_heads_are_as_wide_as_their_tensors(tmp_path):
    """What is recorded as head_dim is hidden_size / heads, which some models do not keep to."""
    made = data()
    other = {**CONFIG, "hidden_size": 2 * D, "head_dim": D // 2}
    for i, graph in enumerate(read(side_by_side(tmp_path, made, config=other))):
        assert not graph.diff(expected(made, i))  # the scale is no root of a head size: the model's own
    path = side_by_side(tmp_path, made, config={**other, "attention_multiplier": (D // 2) ** -0.5})
    with pytest.raises(ag.errors.UnsupportedError, match=r"heads are 16 wide.*give scale=, which is 0.25 \(1 / sqrt\(16\)\)"):
        read(path)
    for i, graph in enumerate(read(path, scale=D**-0.5)):
        assert not graph.diff(expected(made, i, scale=D**-0.5))


def test_bfloat16(tmp_path):
    bits = {la: [tuple(to_bfloat16(x.astype(np.float32)) for x in pair) for pair in s] for la, s in data().items()}
    wide = {
        la: [tuple((x.astype(np.uint32) << 16).view(np.float32) for x in pair) for pair in s] for la, s in bits.items()
    }
    (graph, _) = read(compact(tmp_path, bits, bfloat16=True))
    assert not graph.diff(expected(wide, 0), band=1e-5)


def test_last_tokens(tmp_path):
    made = data()
    tensors = {}
    for layer, sequences in made.items():
        tensors[key(layer, "q")] = np.stack([q[-1] for q, _ in sequences])
        tensors[key(layer, "k")] = padded([k for _, k in sequences])
    facts = {"layer_order": order("last_token"), "hookq_mode": "last_token", "k_seq_lens": list(LENGTHS)}
    for i, graph in enumerate(read(write(tmp_path, tensors, facts))):
        whole = expected(made, i)
        assert all((s.query_begin, s.query_count, s.key_count) == (LENGTHS[i] - 1, 1, LENGTHS[i]) for s in graph.slices)
        last = [e for e in whole.top(len(whole)) if e.query == LENGTHS[i] - 1]
        assert sorted(graph.top(len(graph))) == sorted(last) and last


@pytest.mark.parametrize("shared", [False, True])
def test_ranks_are_put_together(tmp_path, shared):
    """Two ranks with two query heads each; and with keys that both hold."""
    made = data()
    for rank in range(2):
        q, k = slice(rank * 2 * D, (rank + 1) * 2 * D), slice(rank * D, (rank + 1) * D)
        if shared:
            k = slice(0, 2 * D)
        part = {la: [(a[:, q], b[:, k]) for a, b in s] for la, s in made.items()}
        facts = {"tp_size": 2, "kv_head_start": 0 if shared else rank}
        side_by_side(tmp_path / f"tp_rank_{rank}", part, tp_rank=rank, tp_shard=facts)
    for i, graph in enumerate(read(tmp_path)):
        assert not graph.diff(expected(made, i))
    with pytest.raises(ag.errors.NotFoundError, match="one rank of 2; 1 are here"):
        read(tmp_path / "tp_rank_0" / "qk.safetensors")
    (tmp_path / "tp_rank_1" / "qk.safetensors").unlink()
    with pytest.raises(ag.errors.NotFoundError, match="missing"):
        read(tmp_path)


def test_what_files_do_not_hold_is_given(tmp_path):
    made = data()
    path = side_by_side(tmp_path, made)
    how = {"window": {3: 5}, "softcap": 2.0, "scale": 0.2, "sinks": np.zeros(HQ, np.float32), "heads": [1, 2]}
    (graph, _) = read(path, layers=[3], tokens=[["a"] * 9, ["b"] * 14], **how)
    how["window"] = 5
    assert not graph.diff(expected({3: made[3]}, 0, **how)) and graph.tokens == ["a"] * 9


def torch_cache(made, **entry):
    torch = pytest.importorskip("torch")
    cache = {}
    for layer, sequences in made.items():
        q, k = ([torch.from_numpy(pair[w]) for pair in sequences] for w in (0, 1))
        cache[MODULE.format(layer)] = {"q": q, "k_all": k, "layer_num": layer, **entry}
    return torch, {"config": CONFIG, "qk_cache": cache}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_files_of_torch(tmp_path, dtype):
    torch, cache = torch_cache(data())
    for entry in cache["qk_cache"].values():
        for name in ("q", "k_all"):
            entry[name] = [t.to(getattr(torch, dtype)) for t in entry[name]]
    torch.save(cache, tmp_path / "qk.pt")
    made = {
        la: [(q.float().numpy(), k.float().numpy()) for q, k in zip(e["q"], e["k_all"])]
        for la, e in zip(LAYERS, cache["qk_cache"].values())
    }
    for i, graph in enumerate(read(tmp_path)):
        assert not graph.diff(expected(made, i), band=1e-5)


def test_files_of_torch_with_the_lengths_of_keys(tmp_path):
    torch, cache = torch_cache(data())
    for entry in cache["qk_cache"].values():
        entry["q"] = [part for q in entry["q"] for part in (q[:-1], q[-1:])]
        entry["k_full"] = entry.pop("k_all")
        entry["k_prefix_ends"] = [[n - 1, n] for n in LENGTHS]
    torch.save(cache, tmp_path / "qk.pt")
    assert not read(tmp_path)[1].diff(expected(data(), 1), band=1e-6)


@pytest.mark.parametrize("entry", [{"scores": []}, {"q_qmeta": {"bits": 4}}])
def test_other_captures_are_refused(tmp_path, entry):
    torch, cache = torch_cache(data(), **entry)
    torch.save(cache, tmp_path / "qk.pt")
    with pytest.raises(ag.errors.UnsupportedError):
        read(tmp_path)


def test_decoded_tokens_without_their_keys_are_refused(tmp_path):
    made = {la: [pairs[0], (pairs[1][0][:1], pairs[1][1][:1])] for la, pairs in data().items()}
    with pytest.raises(ag.errors.UnsupportedError, match="single key"):
        read(side_by_side(tmp_path, made, q_seq_lens=[9, 1], k_seq_lens=[9, 1]))


def broken(tmp_path, change):
    path = side_by_side(tmp_path, data())
    change(path / "qk.safetensors", path / "qk.json")
    return path


def change_json(**facts):
    return lambda _, sidecar: sidecar.write_text(json.dumps({**json.loads(sidecar.read_text()), **facts}))


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda file, _: file.write_bytes(file.read_bytes()[:-1]), ag.errors.FormatError),
        (lambda file, _: file.write_bytes(b"\xff" * 40), ag.errors.FormatError),
        (lambda file, _: file.write_bytes(b""), ag.errors.FormatError),
        (lambda file, _: file.write_bytes((2).to_bytes(8, "little") + b"[]"), ag.errors.FormatError),
        (lambda file, _: file.unlink(), ag.errors.NotFoundError),
        (lambda _, sidecar: sidecar.unlink(), ag.errors.NotFoundError),
        (lambda _, sidecar: sidecar.write_text("{"), ag.errors.FormatError),
        (change_json(layer_order=[{"key_q": "a", "key_k": "b", "layer_num": 1}]), ag.errors.FormatError),
        (change_json(layer_order=[{"key_q": [], "layer_num": 1}]), ag.errors.FormatError),
        (change_json(layer_order=["q"]), ag.errors.FormatError),
        (change_json(config={}), ag.errors.FormatError),
        (change_json(config={**CONFIG, "num_attention_heads": 5}), ag.errors.ShapeError),
        (change_json(config={**CONFIG, "num_key_value_heads": 4}), ag.errors.ShapeError),
        (
            change_json(hookq_mode="score", layer_order=[{**o, "hookq_mode": "score"} for o in order()]),
            ag.errors.UnsupportedError,
        ),
        (change_json(compact_all_tokens=True, k_full_lens=[1], k_prefix_ends=[[1]]), ag.errors.FormatError),
    ],
)
def test_broken_runs_are_told(tmp_path, change, kind):
    with pytest.raises(kind):
        read(broken(tmp_path, change))


def test_mistakes_are_told(tmp_path):
    path = side_by_side(tmp_path, data())
    for how in ({"layers": [4]}, {"tokens": [["a"]]}, {"threshold": -1}):
        with pytest.raises(ag.Error):
            read(path, **how)
    with pytest.raises(ag.errors.NotFoundError, match="neither a file nor a folder"):
        read(tmp_path / "nothing")
