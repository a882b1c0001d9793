# SPDX-License-Identifier: Apache-2.0
"""The peers of python/bench/gpu_peers.py on the CPU: they answer right, and a wrong answer is found."""

import pytest
from conftest import bench_module

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def peers():
    return bench_module("gpu_peers")


@pytest.fixture(scope="module", params=[True, False], ids=["causal", "full"])
def problem(peers, request):
    q, k = peers.made(torch, 96, 3, 32, torch.float32, "cpu")
    return q, k, request.param, 32**-0.5


def right(peers, edges, problem, band=1e-4):
    q, k, causal, scale = problem
    peers.require_right(torch, edges, q, k, causal, scale, peers.THRESHOLD, band)


@pytest.mark.parametrize("name", ["by_chunks", "by_flash"])
@pytest.mark.parametrize("rows", [7, 96])
def test_peers_answer_right(peers, problem, name, rows):
    q, k, causal, scale = problem
    edges = getattr(peers, name)(torch, q, k, causal, scale, peers.THRESHOLD, rows)
    assert edges[0].numel() > 1000
    right(peers, edges, problem)


def test_wrong_answers_are_found(peers, problem):
    q, k, causal, scale = problem
    head, query, key, weight = peers.by_chunks(torch, q, k, causal, scale, peers.THRESHOLD, 32)
    keep = torch.ones_like(head, dtype=torch.bool)
    keep[int(weight.argmax())] = False
    checked = torch.linspace(0, 95, peers.CHECKED_ROWS).long()
    with pytest.raises(peers.WrongAnswer, match="missing"):
        heaviest = (weight * torch.isin(query, checked)).argmax()
        keep[heaviest] = False
        right(peers, tuple(x[keep] for x in (head, query, key, weight)), problem)
    light = peers.by_chunks(torch, q, k, causal, scale, peers.THRESHOLD / 2, 32)
    with pytest.raises(peers.WrongAnswer, match="no edge"):
        right(peers, light, problem)
    with pytest.raises(peers.WrongAnswer, match="off by"):
        right(peers, (head, query, key, weight * 1.01), problem)
    with pytest.raises(peers.WrongAnswer, match="twice"):
        right(peers, tuple(torch.cat([x, x]) for x in (head, query, key, weight)), problem)


def test_scores_are_written_in_chunks(peers, problem):
    q, k, causal, _ = problem
    room = torch.empty(3 * 96 * 20)
    peers.write_scores(torch, q, k, causal, room)
    rest = 96 % 20 or 20  # rows of the last chunk, whose scores stand in front
    expected = torch.bmm(q[:, -rest:], k.transpose(1, 2))
    torch.testing.assert_close(room[: expected.numel()].view_as(expected), expected)


def test_without_a_device_it_says_so(peers, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert peers.main([]) == 0
    assert "no CUDA device" in capsys.readouterr().out
