# SPDX-License-Identifier: Apache-2.0
"""A researcher's questions, against dense attention in double and loops over small matrices."""

import numpy as np
import pytest
from conftest import softmax_weights

import attngraph as ag

WINDOW = 16


def dense_heads(weights, token_ids, word_ids, marks):
    """The table of heads from [H, Nq, Nk] in float64; queries stand at the last keys."""
    heads, queries, keys = weights.shape
    position = np.arange(keys - queries, keys)[:, None]
    key = np.arange(keys)[None]
    distance = np.abs(position - key)
    token_ids, word_ids = np.asarray(token_ids), np.asarray(word_ids)
    same = token_ids[position] == token_ids[key]
    copies = same & (position != key)
    after = np.zeros_like(same)
    after[:, 1:] = (same & (key < position))[:, :-1]
    words = (word_ids[position] == word_ids[key]) & (position != key)
    share = lambda pairs: (weights * pairs).sum((1, 2)) / queries  # noqa: E731
    received = weights.sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -np.where(weights > 0, weights * np.log(weights), 0).sum((1, 2)) / queries
    return {
        "entropy": entropy,
        "self_share": share(distance == 0),
        "previous_share": share(position - key == 1),
        "window_share": share(distance < WINDOW),
        "mean_distance": (weights * distance).sum((1, 2)) / weights.sum((1, 2)),
        "first_share": share(key == 0),
        "heaviest_share": received.max(1) / queries,
        "punctuation_share": received[:, marks].sum(1) / queries,
        "induction_share": share(after),
        "duplicate_share": share(copies),
        "same_word_share": share(words),
    }


def check_heads(table, weights, token_ids, word_ids, marks):
    want = dense_heads(weights, token_ids, word_ids, marks)
    for name, values in want.items():
        scale = np.maximum(1, np.abs(values)) if name in ("mean_distance", "entropy") else 1
        np.testing.assert_allclose(table[name] / scale, values / scale, rtol=0, atol=1e-6, err_msg=name)
    assert (table["heaviest_key"] == weights.sum(1).argmax(1)).all()


def test_heads_of_a_real_model_are_those_of_dense_attention(genesis):
    import json

    tensors, facts = genesis
    tokens = json.loads(facts["tokens"])
    layers = sorted(int(name[2:]) for name in tensors if name.startswith("q."))
    q, k = ({n: tensors[f"{which}.{n}"] for n in layers} for which in "qk")
    scale = float(facts["scale"])
    graph = ag.extract(q, k, threshold=0.05, scale=scale, tokens=tokens, stats="heads")
    table = graph.heads()
    marks = [all(c in "!\"'(),-.:;?" for c in t.strip()) and bool(t.strip()) for t in tokens]
    ids = np.unique(np.array(tokens, dtype=object), return_inverse=True)[1]
    for n in layers:
        weights = softmax_weights(q[n][None], k[n][None], scale=scale)[0]
        rows = np.flatnonzero(table["layer"] == n)
        part = {name: table[name][rows] for name in table.columns}
        check_heads(part, weights, ids, graph.words(), np.array(marks))


def test_statistics_that_were_not_asked_for_are_named():
    g = ag.from_matrix([[1.0, 0.0], [0.25, 0.75]])
    with pytest.raises(ag.errors.NotFoundError, match='no sums of entropy, columns, distances .* stats="heads"'):
        g.heads()
    assert g.heads(partial=True).columns == ["batch", "layer", "head", "queries", "edges", "kept_mass"]
    g = ag.from_matrix([[1.0, 0.0], [0.25, 0.75]], stats=["columns", "entropy"])
    with pytest.raises(ag.errors.NotFoundError, match="no sums of distances"):
        g.heads()
    assert "first_share" in g.heads(partial=True).columns and "self_share" not in g.heads(partial=True).columns


def test_token_ids_of_another_length_are_refused():
    q = np.ones((1, 4, 8), np.float32)
    with pytest.raises(ag.errors.ShapeError, match="token_ids is .*one for every key"):
        ag.extract(q, q, stats="heads", token_ids=[1, 2, 3])
    with pytest.raises(ag.errors.DtypeError, match="token_ids"):
        ag.extract(q, q, stats="heads", token_ids=[0.5] * 4)
    with pytest.raises(ag.errors.ArgumentError, match="token_ids, or tokens"):
        ag.extract(q, q, stats="tokens")
    assert "induction_share" not in ag.extract(q, q, stats="heads").heads().columns


def test_batches_have_tokens_of_their_own():
    rng = np.random.default_rng(2)
    q, k = rng.standard_normal((2, 2, 3, 24, 8)).astype(np.float32)
    ids, words = rng.integers(0, 5, (2, 24)), np.sort(rng.integers(0, 9, (2, 24)))
    table = ag.extract(q, k, threshold=0.1, stats="heads", token_ids=ids, word_ids=words).heads()
    for b in range(2):
        want = dense_heads(softmax_weights(q, k)[b], ids[b], words[b], np.zeros(24, bool))
        for name in ("induction_share", "duplicate_share", "same_word_share"):
            np.testing.assert_allclose(table[name][table["batch"] == b], want[name], atol=1e-6)


# ----------------------------------------------------------------------------------------------------------------------
# smaller graphs


@pytest.fixture
def graph():
    rng = np.random.default_rng(7)
    q, k = (1.5 * rng.standard_normal((2, 2, 3, 30, 8)).astype(np.float32) for _ in range(2))
    tokens = [[" the", " cat", "s", " sat", "."][i % 5] for i in range(30)]
    return ag.extract(list(q), list(k), threshold=0.03, tokens=tokens)


def rows_of(g):
    e = g.edges
    return set(zip(*(e[name].tolist() for name in ("batch", "layer", "head", "query", "key"))))


def test_filter_and_top_hold_every_condition(graph):
    rows, weight = rows_of(graph), {(e.batch, e.layer, e.head, e.query, e.key): e.weight for e in graph.top(len(graph))}
    the = {i for i in range(30) if i % 5 == 0}
    cases = [
        ({"heads": [(0, 1), (1, 2)]}, lambda b, la, h, i, j: (la, h) in {(0, 1), (1, 2)}),
        ({"queries": (5, 12)}, lambda b, la, h, i, j: 5 <= i < 12),
        ({"keys": (None, 4)}, lambda b, la, h, i, j: j < 4),
        ({"distance": (1, 3)}, lambda b, la, h, i, j: 1 <= i - j <= 3),
        ({"without_first": True}, lambda b, la, h, i, j: j > 0),
        ({"key_tokens": "the"}, lambda b, la, h, i, j: j in the),
        ({"query_tokens": ["the", "."], "layers": 1}, lambda b, la, h, i, j: la == 1 and (i in the or i % 5 == 4)),
    ]
    for part, keeps in cases:
        want = {row for row in rows if keeps(*row)}
        assert want and rows_of(graph.filter(**part)) == want, part
        top = graph.top(5, **part)
        assert [e.weight for e in top] == sorted((weight[row] for row in want), reverse=True)[:5], part


@pytest.mark.parametrize(
    "part, says",
    [
        ({"heads": [0, (1, 2)]}, "numbers and pairs"),
        ({"heads": [(7, 0)]}, "no layer 7 with head 0"),
        ({"queries": (5, 5)}, "holds nothing"),
        ({"queries": 5}, "it is a pair"),
        ({"key_tokens": "dog"}, "none of the tokens is 'dog'"),
        ({"distance": (3, 1)}, "no distance is between"),
        ({"layers": []}, "layers is empty"),
    ],
)
def test_parts_that_hold_nothing_are_told(graph, part, says):
    with pytest.raises(ag.Error, match=says):
        graph.filter(**part)


def test_tables_and_graphs_come_back(graph):
    pandas = pytest.importorskip("pandas")
    frame = graph.to_pandas().sample(frac=1, random_state=1)
    for back in (ag.from_pandas(frame, tokens=graph.tokens), ag.from_pandas(frame[frame.columns[:6]], keys=30)):
        assert not back.diff(graph) and back.edges["weight"].dtype == np.float32
        assert back.report.eps is None
        assert [s[:6] for s in back.slices] == sorted(s[:6] for s in graph.slices)
    assert ag.from_pandas(frame, tokens=graph.tokens).tokens == graph.tokens
    with pytest.raises(ag.errors.ArgumentError, match="no column weight"):
        ag.from_pandas(frame.drop(columns="weight"))
    with pytest.raises(ag.errors.ArgumentError, match="second edge"):
        ag.from_pandas(pandas.concat([frame, frame[:1]]))
    with pytest.raises(ag.errors.ArgumentError, match="keys up to"):
        ag.from_pandas(frame, keys=3)
    assert len(ag.from_pandas(frame[:0], keys=3, queries=3)) == 0
    for index in (["layer", "head"], "query", ["batch", "layer", "head", "query", "key"]):  # as groupby leaves them
        assert not ag.from_pandas(frame.set_index(index), tokens=graph.tokens).diff(graph)


def test_arrow_and_networkx_come_back(graph):
    pytest.importorskip("pyarrow")
    assert not ag.from_arrow(graph.edges).diff(graph)
    pytest.importorskip("networkx")
    for direction in ("query_to_key", "key_to_query"):
        back = ag.from_networkx(graph.to_networkx(direction), direction=direction)
        assert not back.diff(graph) and back.tokens == graph.tokens
    import networkx

    with pytest.raises(ag.errors.ArgumentError, match="not directed"):
        ag.from_networkx(networkx.Graph([(0, 1)]))


# ----------------------------------------------------------------------------------------------------------------------
# words


def test_words_are_sums_over_keys_and_means_over_queries(graph):
    words = graph.words()
    assert words[:6].tolist() == [0, 1, 1, 2, 2, 3]
    grouped = graph.group()
    count = words.max() + 1
    member = (words == np.arange(count)[:, None]).astype(float)
    for s in grouped.slices:
        dense = np.zeros((30, 30))
        indptr, indices, data = graph.csr(s.layer, s.head, s.batch)
        dense[np.repeat(np.arange(30), np.diff(indptr)), indices] = data
        want = (member / member.sum(1, keepdims=True)) @ dense @ member.T
        found = np.zeros((count, count))
        indptr, indices, data = grouped.csr(s.layer, s.head, s.batch)
        found[np.repeat(np.arange(count), np.diff(indptr)), indices] = data
        np.testing.assert_allclose(found, want, atol=1e-12)
        kept = graph.rows(s.layer, s.head, s.batch).kept_mass
        np.testing.assert_allclose(
            grouped.rows(s.layer, s.head, s.batch).kept_mass, (member @ kept) / member.sum(1), atol=1e-12
        )
    assert grouped.tokens[:3] == [" the", " cats", " sat."]


def test_spans_come_in_many_ways(graph):
    by_text = graph.group()
    word_ids = [None if i % 5 == 4 else i // 5 * 4 + (0, 1, 1, 2)[i % 5] for i in range(30)]
    by_ids = graph.group(word_ids=word_ids)
    assert by_ids.tokens[:4] == [" the", " cats", " sat", "."]
    ends = np.cumsum([len(t) for t in graph.tokens])
    offsets = [(int(e) - len(t) + (t[0] == " "), int(e)) for e, t in zip(ends, graph.tokens)]
    assert graph.group(offsets=offsets).tokens == by_text.tokens
    spans = [(begin, begin + 5) for begin in range(0, 30, 5)]
    sentences = graph.group(spans, labels=[f"sentence {n}" for n in range(6)])
    assert sentences.tokens[0] == "sentence 0" and sentences.slices[0].query_count == 6
    kept = graph.report.kept_mass
    assert sentences.report.kept_mass == pytest.approx(kept) and 1 - kept > 0
    assert graph.group([(5, 10)], rest="drop").slices[0].key_count == 1


@pytest.mark.parametrize(
    "how, says",
    [
        ({"spans": [(0, 5), (4, 30)]}, "overlaps"),
        ({"spans": [(0, 5), (6, 30)]}, "position 5 is in no span"),
        ({"spans": [(0, 31)]}, "has 30 positions"),
        ({"spans": [3]}, r"a span is \(begin, end\)"),
        ({"word_ids": [0, 1]}, "words of 2 tokens; the graph has 30"),
        ({"spans": [(0, 30)], "labels": []}, "0 labels for 1 spans"),
        ({"spans": [(0, 30)], "word_ids": [0] * 30}, "one of them"),
        ({"rest": "keep"}, "'error', 'drop' or 'own'"),
    ],
)
def test_spans_that_cannot_be_meant_are_refused(graph, how, says):
    with pytest.raises(ag.Error, match=says):
        graph.group(**how)


# ----------------------------------------------------------------------------------------------------------------------
# two graphs


def test_heads_that_moved(genesis):
    tensors, facts = genesis
    n = min(int(name[2:]) for name in tensors if name.startswith("q."))
    q, k = (np.asarray(tensors[f"{which}.{n}"][:, :200], np.float32) for which in "qk")
    rough = (q + 0.3 * np.random.default_rng(0).standard_normal(q.shape)).astype(np.float32)
    a, b = softmax_weights(q[None], k[None])[0], softmax_weights(rough[None], k[None])[0]
    truth = np.abs(a - b).sum(2).mean(1) / 2
    graphs = [ag.extract(x, k, threshold=0.01) for x in (q, rough)]
    table = graphs[0].diff_heads(graphs[1])
    assert (table["variation_min"] <= truth + 1e-6).all() and (truth <= table["variation_max"] + 1e-6).all()
    moved = table.sort("variation_min")
    assert moved["variation_min"][0] == table["variation_min"].max()
    pairs = graphs[0].diff_pairs(graphs[1], 3)
    for row in pairs:
        i, j, h = row["query"], row["key"], row["head"]
        assert abs(row["change"]) <= abs(b[h, i, j] - a[h, i, j]) + 1e-6


def test_prompts_of_different_length_are_aligned():
    rng = np.random.default_rng(3)
    k = rng.standard_normal((1, 12, 8)).astype(np.float32)
    tokens = [f"w{i}" for i in range(12)]
    long = ag.extract(k, k, threshold=0.01, tokens=tokens)
    cut = np.delete(k, 4, axis=1)
    short = ag.extract(cut, cut, threshold=0.01, tokens=tokens[:4] + tokens[5:])
    assert long.align(short).tolist() == [0, 1, 2, 3, -1, 4, 5, 6, 7, 8, 9, 10]
    table = long.diff_heads(short, align="tokens")
    assert table["queries"].tolist() == [11]
    with pytest.raises(ag.errors.ShapeError, match="12 keys"):
        long.diff_heads(short, align=[0, 1])
    with pytest.raises(ag.errors.ShapeError, match="no .* in common"):
        long.diff_heads(ag.from_matrix([[1.0]], layer=3))


def test_tables_are_read_by_others():
    table = ag.from_matrix([[[1.0, 0.0], [0.5, 0.5]]] * 2, stats="heads").heads()
    assert len(table) == 2 and "self_share" in repr(table) and "<table>" in table._repr_html_()
    assert [row["head"] for row in table] == [0, 1] and len(table.head(1)) == 1
    with pytest.raises(KeyError, match="there is no column 'x'"):
        table["x"]
    arrow = pytest.importorskip("pyarrow")
    assert arrow.table(table).column_names == table.columns
    pandas = pytest.importorskip("pandas")
    assert isinstance(table.to_pandas(), pandas.DataFrame)


# ----------------------------------------------------------------------------------------------------------------------
# what a cache would lose


def kept_by(weights, window, first, keys=(), heavy=0):
    """[H, Nq, Nk] bool: which pairs a cache keeps."""
    heads, queries, count = weights.shape
    position, key = np.arange(count - queries, count)[:, None], np.arange(count)[None]
    kept = np.broadcast_to((position - key < window) | (key < first) | np.isin(key, list(keys)), weights.shape).copy()
    for head in range(heads if heavy else 0):
        kept[head][:, np.argsort(-weights[head].sum(0), kind="stable")[:heavy]] = True
    return kept


@pytest.mark.parametrize("cache", [{"window": 9}, {"window": 5, "first": 3}, {"keys": [2, 7, 30]}, {"window": 4, "heavy": 6}])
def test_what_a_cache_loses_is_exact(cache):
    rng = np.random.default_rng(11)
    q = 2 * rng.standard_normal((1, 4, 40, 16)).astype(np.float32)
    k = 2 * rng.standard_normal((1, 2, 44, 16)).astype(np.float32)
    weights = softmax_weights(q, k)[0]
    how = {"window": 0, "first": 0, **cache}
    truth = np.where(kept_by(weights, **how), 0, weights).sum(2)
    loss = ag.cache_loss(q, k, **cache)
    for head in range(4):
        np.testing.assert_allclose(loss.queries[0, 0, head], truth[head], atol=2e-6)
    np.testing.assert_allclose(loss.heads["lost"], truth.mean(1), atol=1e-6)
    assert loss.heads["worst_query"].tolist() == truth.argmax(1).tolist()
    graph = ag.extract(q, k, threshold=0.02, stats="heads")
    bounds = graph.cache_loss(**cache)
    for head in range(4):
        least, most = bounds.queries[0, 0, head]
        assert (least <= truth[head] + 1e-6).all() and (truth[head] <= most + 1e-6).all()


def test_caches_of_models_with_sinks_lose_nothing_of_the_sink():
    rng = np.random.default_rng(12)
    q, k = rng.standard_normal((2, 1, 2, 30, 8)).astype(np.float32)
    sinks = np.array([0.5, 2.0], np.float32)
    weights = softmax_weights(q, k, sinks=sinks)[0]
    for cache in ({"window": 6}, {"first": 4}):
        truth = np.where(kept_by(weights, **{"window": 0, "first": 0, **cache}), 0, weights).sum(2)
        loss = ag.cache_loss(q, k, sinks=sinks, **cache)
        for head in range(2):
            np.testing.assert_allclose(loss.queries[0, 0, head], truth[head], atol=2e-6)


def test_caches_of_many_layers_lose_what_each_layer_loses():
    rng = np.random.default_rng(13)
    q, k = rng.standard_normal((2, 3, 1, 2, 30, 8)).astype(np.float32)
    alone = [ag.cache_loss(q[n], k[n], window=5, first=2, layer=n, scale=0.2 * (n + 1)) for n in range(3)]
    scales = [0.2, 0.4, 0.6]
    for given in ((q, k), (list(q), list(k)), (dict(enumerate(q)), dict(enumerate(k))), ({n: (q[n], k[n]) for n in range(3)},)):
        loss = ag.cache_loss(*given, window=5, first=2, scale=scales)
        assert loss.heads["layer"].tolist() == [0, 0, 1, 1, 2, 2]
        for name in loss.heads.columns:
            assert loss.heads[name].tolist() == np.concatenate([one.heads[name] for one in alone]).tolist()
        assert all((loss.queries[at] == one.queries[at]).all() for one in alone for at in one.queries)
    part = ag.cache_loss(q, k, layers=[2], heads=[1], window=5, first=2, scale=scales)
    assert part.heads["lost"].tolist() == alone[2].heads["lost"][1:].tolist()
    with pytest.raises(ag.errors.ShapeError, match="different layers"):
        ag.cache_loss([q[0]], [k[0], k[1]], window=5)


def test_caches_that_cannot_be_meant_are_refused():
    q = np.ones((1, 8, 4), np.float32)
    with pytest.raises(ag.errors.ArgumentError, match="keeps nothing"):
        ag.cache_loss(q, q)
    with pytest.raises(ag.errors.ArgumentError, match="there are 8 keys"):
        ag.cache_loss(q, q, keys=[8])
    with pytest.raises(ag.errors.ArgumentError, match="does not take threshold"):
        ag.cache_loss(q, q, window=2, threshold=0.1)
    with pytest.raises(ag.errors.NotFoundError, match='stats="heads"'):
        ag.extract(q, q).cache_loss(heavy=2)


def test_the_heaviest_path_is_the_best_of_all_ways():
    rng = np.random.default_rng(21)
    n, layers, heads = 6, 3, 2
    weights = rng.random((layers, heads, n, n)) * np.tri(n) + np.eye(n) * 1e-3
    weights /= weights.sum(-1, keepdims=True)
    g = ag.from_matrix(weights, threshold=0.05)
    kept = np.where(weights >= 0.05, weights, 0)
    step = np.maximum(0.5 * kept.max(1), 0.5 * np.eye(n))  # [layer, query, key]
    for query in range(n):
        for key in range(query + 1):
            ways = np.zeros((n,) * layers)
            for middle in np.ndindex((n,) * (layers - 1)):
                stops = (key, *middle, query)
                ways[middle] = np.prod([step[la, stops[la + 1], stops[la]] for la in range(layers)])
            if ways.max() == 0:
                continue
            way = g.heaviest_path(query, key)
            assert np.prod(way["weight"]) == pytest.approx(ways.max())
            assert way["key"][0] == key and way["query"][-1] == query
            assert (way["key"][1:] == way["query"][:-1]).all()
    with pytest.raises(ag.errors.NotFoundError, match="no edges lead"):
        g.heaviest_path(0, 5)
    with pytest.raises(ag.errors.ArgumentError, match="has 6 positions"):
        g.heaviest_path(6, 0)
