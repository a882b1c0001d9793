# SPDX-License-Identifier: Apache-2.0
"""Keys in shards give the graph of all keys, outside a band that the report states."""

import numpy as np
import pytest
from conftest import assert_same_edges, softmax_weights
from same import random_qk

import attngraph as ag


def pieces(k, cuts):
    return np.split(k, cuts, axis=-2)


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"causal": False},
        {"window": 90},
        {"softcap": 3.0, "scale": 0.3},
        {"sinks": np.array([0.5, -1.0, 2.0, 0.0], np.float32)},
        {"query_offset": -100},
        {"query_range": (150, 300), "heads": [1, 2]},
    ],
)
def test_shards_are_the_whole(how):
    q, k = random_qk(11, 4, 2, 400)
    whole = ag.extract(q, k, threshold=0.03, **how)
    got = ag.extract_sharded(q, pieces(k, [64, 65, 300]), 0.03, **how)
    assert not got.diff(whole, band=got.report.eps) and len(got) > 100
    assert 0 < got.report.eps < 1e-3 and got.report.eps > whole.report.eps
    near = np.log(ag.extract(q, k, threshold=0.0299, **how).edges["weight"].astype(np.float64) / 0.03)
    assert got.report.borderline == (abs(near) <= got.report.eps).sum()
    for name in ("threshold", "query_offset", "causal", "scale"):
        assert got.metadata[name] == whole.metadata[name]
    assert [s[:6] for s in got.slices] == [s[:6] for s in whole.slices]
    for s in whole.slices:
        a, b = got.rows(s.layer, s.head), whole.rows(s.layer, s.head)
        np.testing.assert_allclose(a.logsumexp, b.logsumexp, rtol=1e-5)
        np.testing.assert_array_equal(a.max_key, b.max_key)
        np.testing.assert_allclose(a.maximum, b.maximum, rtol=1e-5)
        if len(got) == len(whole):
            np.testing.assert_allclose(a.kept_mass, b.kept_mass, rtol=1e-4)


def test_masks_and_lengths_are_cut_with_the_keys():
    rng = np.random.default_rng(12)
    q, k = (1.5 * rng.standard_normal((2, 3, 200, 16)) for _ in range(2))
    mask = rng.random((2, 1, 200, 200)) < 0.8
    got = ag.extract_sharded(q, pieces(k, [30, 150]), 0.04, mask=mask, tokens=[str(i) for i in range(200)])
    assert_same_edges(got, softmax_weights(q, k, mask=mask), 0.04)
    assert got.tokens[199] == "199" and got.metadata["key_shards"] == "3" and "lse" not in got.metadata
    lengths = [200, 70]
    got = ag.extract_sharded(q, pieces(k, [30, 150]), 0.04, key_lengths=lengths)
    assert not got.diff(ag.extract(q, k, 0.04, key_lengths=lengths), band=got.report.eps)


def test_a_shard_is_read_when_its_turn_comes(tmp_path):
    q, k = random_qk(13, 2, 2, 300)
    for n, piece in enumerate(pieces(k, [100, 200])):
        np.save(tmp_path / f"k{n}.npy", piece)
    shards = [np.load(tmp_path / f"k{n}.npy", mmap_mode="r") for n in range(3)]
    got = ag.extract_sharded(q.transpose(1, 0, 2), [s.transpose(1, 0, 2) for s in shards], 0.05, layout="bshd")
    assert not got.diff(ag.extract(q, k, 0.05), band=got.report.eps)


def test_what_needs_all_keys_at_once_is_refused():
    q, k = random_qk(13, 2, 2, 50)
    for name, value in {"top_k": 3, "mass": 0.9, "decision": "certified", "stats": "columns"}.items():
        with pytest.raises(ag.errors.UnsupportedError, match=f"{name} does not go with shards"):
            ag.extract_sharded(q, [k], **{name: value})
    with pytest.raises(ag.errors.ArgumentError, match="above 0"):
        ag.extract_sharded(q, [k], 0)
    with pytest.raises(ag.errors.ArgumentError, match="one piece after the other"):
        ag.extract_sharded(q, k)
    with pytest.raises(ag.errors.ShapeError, match="mask has 49 keys"):
        ag.extract_sharded(q, pieces(k, [20]), mask=np.ones((50, 49), bool))
