# SPDX-License-Identifier: Apache-2.0
"""Weights as generate(output_attentions=True) returns them: a tuple of steps, each a tuple of layers."""

from types import SimpleNamespace

import numpy as np
import pytest

import attngraph as ag

PROMPT, STEPS, WINDOW = 5, 4, 3
RNG = np.random.default_rng(5)


def weights(queries, keys, batch=2, causal=True):
    whole = RNG.dirichlet(np.ones(keys) * 0.4, size=(batch, 3, queries))
    return whole * np.tri(queries, keys, keys - queries) if causal else whole


WHOLE = [weights(PROMPT + STEPS, PROMPT + STEPS) for _ in range(2)]
ROWS = [(0, PROMPT)] + [(PROMPT + n, PROMPT + n + 1) for n in range(STEPS)]


def steps(room=0):
    """The rows of every pass with the keys that it had; room: of a static cache."""
    return tuple(
        tuple(np.pad(w[:, :, begin:end, :end], [(0, 0)] * 3 + [(0, room and room - end)]) for w in WHOLE)
        for begin, end in ROWS
    )


def sizes(graph):
    return sorted(s[:6] for s in graph.slices)


def test_steps_are_one_graph():
    want = ag.from_matrix(tuple(WHOLE), 0.1)
    words = [f"t{n}" for n in range(PROMPT + STEPS + 1)]
    for made in (steps(), list(map(list, steps())), steps(room=20)):
        graph = ag.from_matrix(made, 0.1, tokens=words)  # the token generated last has no row
        assert not want.diff(graph) and sizes(graph) == sizes(want)
        assert graph.tokens == words[:-1]
    joined = ag.concat(ag.from_matrix(step, 0.1) for step in steps())
    assert not want.diff(joined) and sizes(joined) == sizes(want)
    part = ag.from_matrix(steps(), 0.1, layers=1, heads=[0, 2])
    assert not part.diff(want.filter(layers=1, heads=[0, 2])) and len(part)


def test_edges_of_joined_steps_have_the_words_of_their_positions():
    words = [f"t{n}" for n in range(PROMPT + STEPS)]
    graph = ag.concat((ag.from_matrix(step, 0.1) for step in steps()), words)
    table = graph.edges
    assert [words[n] for n in table["query"]] == table["query_token"].tolist()


def test_steps_after_a_cache_that_was_there_before():
    later = steps()[1:]
    graph = ag.from_matrix(later, 0.1)
    assert {s.query_begin for s in graph.slices} == {PROMPT} and {s.key_count for s in graph.slices} == {PROMPT + STEPS}


def test_layers_with_a_window_hold_the_last_keys_only():
    whole = WHOLE[0] * (np.tri(PROMPT + STEPS) - np.tri(PROMPT + STEPS, k=-WINDOW))
    windowed = tuple(
        (full, whole[:, :, begin:end, : end] if begin == 0 else whole[:, :, begin:end, end - WINDOW : end])
        for (full, _), (begin, end) in zip(steps(), ROWS)
    )
    want = ag.from_matrix((WHOLE[0], whole), 0.1)
    assert not want.diff(ag.from_matrix(windowed, 0.1))


def test_cross_attention_keeps_the_keys_of_the_other_sequence():
    whole = [weights(STEPS, 7, causal=False) for _ in range(2)]
    made = tuple(tuple(w[:, :, n : n + 1] for w in whole) for n in range(STEPS))
    want = ag.from_matrix(tuple(whole), 0.1)
    graph = ag.from_matrix(made, 0.1)
    assert not want.diff(graph) and graph.metadata["attention"] == "cross"
    assert not want.diff(ag.from_matrix(made, 0.1, part="cross"))


def test_what_cannot_be_told_apart_is_asked_about():
    square = tuple((weights(PROMPT if n == 0 else 1, PROMPT, causal=False),) for n in range(3))
    with pytest.raises(ag.errors.ArgumentError, match="look the same"):
        ag.from_matrix(square)
    assert ag.from_matrix(square, part="cross").slices[0].query_count == PROMPT + 2
    assert ag.from_matrix(square, part="decoder").slices[0].key_count == PROMPT + 2


def test_beams_are_followed():
    """Row r of a step is of the beam that beam_indices names."""
    beams = np.array([[0, 0, 1, 0, 1], [1, 1, 0, 0, -1]])
    shuffled, expected = [], [np.zeros_like(w) for w in WHOLE]
    for n, (step, (begin, end)) in enumerate(zip(steps(), ROWS)):
        shuffled.append(tuple(RNG.permuted(w, axis=1) for w in step))
        for layer, w in enumerate(shuffled[-1]):
            for sequence in range(2):
                expected[layer][sequence, :, begin:end, :end] = w[max(beams[sequence, n], 0)]
    output = SimpleNamespace(attentions=tuple(shuffled), beam_indices=beams)
    assert not ag.from_matrix(output, 0.1).diff(ag.from_matrix(tuple(expected), 0.1))


def test_outputs_may_be_given_whole():
    assert not ag.from_matrix(SimpleNamespace(attentions=tuple(WHOLE)), 0.1).diff(ag.from_matrix(tuple(WHOLE), 0.1))
    both = SimpleNamespace(encoder_attentions=tuple(WHOLE[:1]), cross_attentions=tuple(WHOLE[1:]))
    with pytest.raises(ag.errors.ArgumentError, match="encoder_attentions, cross_attentions; say which"):
        ag.from_matrix(both)
    assert not ag.from_matrix(both, 0.1, part="cross").diff(ag.from_matrix(tuple(WHOLE[1:]), 0.1))


@pytest.mark.parametrize("nothing", [None, (), [], (None, None), ((None, None), (None, None)), ((), ())], ids=repr)
def test_no_weights_say_why(nothing):
    for given in (nothing, SimpleNamespace(attentions=nothing)):
        with pytest.raises(ag.errors.ArgumentError, match="sdpa.*eager.*capture"):
            ag.from_matrix(given)


def test_odd_steps_are_told():
    good = steps()
    for odd in (good[:2] + (good[2][:1],), good[:1] + (tuple(w[:1] for w in good[1]),), (good[0], (good[1][0], WHOLE[1]))):
        with pytest.raises(ag.errors.ShapeError):
            ag.from_matrix(odd)
    for how in ({"mask": np.ones((9, 9), bool)}, {"query_range": (0, 2)}, {"query_offset": 3}, {"key_lengths": [1, 2]}):
        with pytest.raises(ag.errors.UnsupportedError, match="steps of a generation"):
            ag.from_matrix(good, **how)
    with pytest.raises(ag.errors.ArgumentError, match="part is 'self'"):
        ag.from_matrix(good, part="self")
