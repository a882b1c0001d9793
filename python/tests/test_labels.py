# SPDX-License-Identifier: Apache-2.0
"""Words of queries and keys, one list for all sequences of a batch or one for each: nothing is called by another's word."""

import json

import numpy as np
import pytest

import attngraph as ag

CROSS = np.random.default_rng(0).dirichlet(np.ones(5) * 0.4, size=(1, 3))
BATCH = np.random.default_rng(1).dirichlet(np.ones(3) * 0.4, size=(2, 1, 3))
ENGLISH, FRENCH = ["the", "black", "cat"], ["le", "chat", "noir", ".", "</s>"]
PAIR = [list("abc"), list("xyz")]


def cross(**how):
    return ag.from_matrix(CROSS, 0.05, FRENCH, query_tokens=ENGLISH, **how)


def batch():
    return ag.from_matrix(BATCH, 0.05, PAIR, layout="bhqk")


def named(table):
    """[(batch, query, key, word of the query, word of the key)]"""
    return list(zip(*(list(table[name]) for name in ("batch", "query", "key", "query_token", "key_token"))))


def tables(graph):
    yield graph.edges
    pandas = pytest.importorskip("pandas")
    yield graph.to_pandas()
    if pytest.importorskip("pyarrow"):
        yield graph.to_arrow().to_pydict()
    assert pandas


def test_queries_and_keys_have_words_of_their_own():
    for table in tables(cross()):
        rows = named(table)
        assert rows and all(q == ENGLISH[i] and k == FRENCH[j] for _, i, j, q, k in rows)


def test_every_sequence_has_words_of_its_own():
    for table in tables(batch()):
        rows = named(table)
        assert {b for b, *_ in rows} == {0, 1}
        assert all(q == PAIR[b][i] and k == PAIR[b][j] for b, i, j, q, k in rows)
    graph = batch()
    assert graph.labels() == PAIR and graph.labels("queries") is None and graph.tokens is None


def test_words_go_with_a_graph(tmp_path):
    for graph in (cross(), batch()):
        graph.save(tmp_path / "g.npz")
        for same in (ag.load(tmp_path / "g.npz"), ag.concat([graph]), graph.filter(0.06), graph.aggregate()):
            assert same.labels() == graph.labels() and same.labels("queries") == graph.labels("queries")
            rows = named(same.edges)
            assert rows == [row for row in named(graph.edges) if row in rows]


def test_files_of_the_library_have_the_same_words(tmp_path):
    for graph in (cross(), batch()):
        graph.to_jsonl(tmp_path / "g.jsonl")
        lines = [json.loads(line) for line in (tmp_path / "g.jsonl").read_text().splitlines()]
        assert named({name: [line[name] for line in lines] for name in lines[0]}) == named(graph.edges)


def test_nodes_of_two_sides_are_kept_apart():
    pytest.importorskip("networkx")
    out = cross().to_networkx()
    assert out.nodes["b0_q2"] == {"batch": 0, "position": 2, "side": "query", "token": "cat"}
    assert all(q.startswith("b0_q") and k.startswith("b0_k") for q, k in out.edges())
    back = cross().to_networkx("key_to_query")
    assert {(k, q) for q, k in out.edges()} == set(back.edges())
    out = batch().to_networkx()
    assert out.nodes["b1_0"]["token"] == "x" and out.nodes["b0_0"]["token"] == "a"
    assert sorted(ag.from_matrix(np.eye(2), tokens=["a", "b"]).to_networkx().nodes(data="token")) == [(0, "a"), (1, "b")]


def test_nodes_for_graphistry_are_kept_apart():
    pytest.importorskip("graphistry")
    plot = cross().to_graphistry()
    words = dict(zip(plot._nodes["id"], plot._nodes["token"]))
    for source, target in zip(plot._edges["src"], plot._edges["dst"]):
        assert words[source] in ENGLISH and words[target] in FRENCH


def test_cross_attention_without_words_of_its_queries_calls_them_nothing():
    graph = ag.from_matrix(CROSS, 0.05, FRENCH, part="cross")
    assert set(graph.edges["query_token"]) == {""} and set(graph.edges["key_token"]) <= set(FRENCH)


def test_what_is_shown_has_the_right_words():
    assert "cat" in cross()._repr_html_() and "'noir'" in repr(cross().edges)
    assert "&#x27;x&#x27;" in ag.from_matrix(BATCH[1:], 0, [PAIR[1]], layout="bhqk").edges._repr_html_()


def test_words_choose_the_side_that_has_them():
    graph = ag.from_matrix(CROSS, 0, ["the", "dog", "x", "y", "z"], query_tokens=["dog", "the", "end"])
    for place, word in enumerate(["dog", "the", "end"]):
        assert {e.query for e in graph.filter(query_tokens=word).top(15)} == {place}
        assert {e.query for e in graph.top(15, query_tokens=word)} == {place}
    assert {e.key for e in graph.filter(key_tokens="dog").top(15)} == {1}
    with pytest.raises(ag.errors.NotFoundError):
        graph.filter(query_tokens="x")
    # A step of decoding: its one query stands at the last key.
    step = ag.from_matrix(CROSS[:, :1], 0, list("abcde"))
    assert len(step.filter(query_tokens="e")) == 5 and len(step.filter(query_tokens="a")) == 0
    with pytest.raises(ag.errors.ArgumentError, match="every sequence has words of its own"):
        batch().filter(key_tokens="a")


def test_what_needs_one_sequence_refuses_two():
    square = ag.from_matrix(CROSS[:, :, :3], 0, ENGLISH, query_tokens=list("abc"))
    for call in (
        square.group, square.rollout, square.pagerank, lambda: square.flow(2, 0), lambda: square.heaviest_path(2, 0),
        lambda: square.filter(distance=(0, 1)), lambda: square.diff_heads(square, align="tokens"),
        lambda: square.diff_pairs(square, align=[0, 1, 2]),
    ):  # fmt: skip
        with pytest.raises(ag.Error, match="sequence"):
            call()
    assert square.diff_heads(square)["variation_min"].tolist() == [0]


def test_lists_of_other_libraries_and_what_is_no_list():
    pyarrow = pytest.importorskip("pyarrow")
    for words in (pyarrow.array(FRENCH), np.array(FRENCH), (word for word in FRENCH), [word.encode() for word in FRENCH],
                  [bytearray(word.encode()) for word in FRENCH]):  # fmt: skip
        assert ag.from_matrix(CROSS, 0.05, words).tokens == FRENCH
    with pytest.raises(ag.errors.DtypeError, match=r"tokens\[0\] is int; .* attngraph.token_texts\(ids, tokenizer\)"):
        ag.from_matrix(CROSS, 0.05, [1, 2, 3, 4, 5])
    for words in ({word: 1 for word in FRENCH}, set(FRENCH), "abcde", b"abcde"):
        with pytest.raises(ag.errors.ArgumentError, match="it must be a list with one text per position"):
            ag.from_matrix(CROSS, 0.05, words)


def test_networkx_and_graphml_keep_the_words_of_both_sides(tmp_path):
    networkx = pytest.importorskip("networkx")
    pairs = ag.from_matrix(BATCH[:, :, :2], 0.05, PAIR, layout="bhqk", query_tokens=[["p", "q"], ["r", "s"]], part="cross")
    for graph in (cross(), batch(), pairs, ag.from_matrix(CROSS[:, :, :3], 0.05)):
        graph.to_graphml(tmp_path / "g.graphml")
        for back in (
            ag.from_networkx(graph.to_networkx()),
            ag.from_networkx(graph.to_networkx("key_to_query"), direction="key_to_query"),
            ag.from_networkx(networkx.read_graphml(tmp_path / "g.graphml")),
        ):
            assert not graph.diff(back)
            assert [back.labels(side) for side in ("keys", "queries")] == [graph.labels(side) for side in ("keys", "queries")]
    for nodes, text in (
        ([("a", {})], "node 'a' stands nowhere"),
        ([(0, {"side": "key"}), (1, {})], "some have none"),
        ([("a", {"position": 1}), (1, {})], "two nodes stand at one position"),
    ):
        odd = networkx.DiGraph()
        odd.add_nodes_from(nodes)
        with pytest.raises(ag.errors.ArgumentError, match=text):
            ag.from_networkx(odd)


def test_lists_that_do_not_fit_are_told():
    for how, text in (
        ({"tokens": [list("abc")] * 3}, "words for 3 sequences, but the batch has 2"),
        ({"tokens": [list("abc")]}, "1 lists; there are 2 sequences"),
        ({"query_tokens": [list("abc")]}, "query_tokens has 1 lists"),
        ({"tokens": [list("abc"), list("xy")]}, "2 .*3"),
        ({"tokens": list("abc"), "query_tokens": list("ab")}, "2 .*3"),
        ({"tokens": [list("abc"), 5]}, "int"),
    ):
        with pytest.raises(ag.Error, match=text):
            ag.from_matrix(BATCH, 0.05, layout="bhqk", **how)


def test_an_empty_list_of_words_is_told():
    for empty in ([], (), np.array([])):
        with pytest.raises(ag.errors.ShapeError, match="tokens is empty, but there are 2 positions"):
            ag.from_matrix(np.eye(2), 0.1, tokens=empty)
    with pytest.raises(ag.errors.ShapeError, match="query_tokens is empty"):
        ag.from_matrix(np.eye(2), 0.1, tokens=["a", "b"], query_tokens=[])
    assert ag.from_matrix(np.zeros((0, 0)), 0.1, tokens=[]).tokens is None  # a word for every position: there are none


def test_between_two_sequences_nothing_has_a_distance():
    graph = ag.from_matrix(CROSS, 0.05, FRENCH, query_tokens=ENGLISH, stats="heads")
    table, stats = graph.heads(), graph.stats()
    np.testing.assert_allclose(table["first_share"], [CROSS[0, :, 0].sum() / CROSS[0].sum()])
    for name in ("self_share", "previous_share", "mean_distance"):
        assert name not in table.columns and np.isnan(getattr(stats, name))
    for name in ("window_share", "induction_share", "duplicate_share", "same_word_share"):
        assert name not in table.columns
