# SPDX-License-Identifier: Apache-2.0
"""Ways through the layers, against networkx on graphs that it can hold."""

import numpy as np
import pytest

import attngraph as ag

networkx = pytest.importorskip("networkx")
pytest.importorskip("scipy")


def layers_of(count, layers=3, heads=2, seed=0, threshold=0.02):
    rng = np.random.default_rng(seed)
    q, k = (1.5 * rng.standard_normal((layers, 1, heads, count, 8)) for _ in range(2))
    return ag.extract(list(q), list(k), threshold=threshold)


def layered(graph, residual=0.5):
    """The network of attention flow as the paper says, in dictionaries."""
    network = networkx.DiGraph()
    layers = sorted({s.layer for s in graph.slices})
    for depth, layer in enumerate(layers):
        heads = [s.head for s in graph.slices if s.layer == layer]
        dense = sum(graph.to_scipy(layer, head).toarray().astype(np.float64) for head in heads) / len(heads)
        for i, row in enumerate(dense):
            row = (1 - residual) * row / row.sum() if row.sum() else row
            row[i] += residual if row.sum() else 1
            for j in np.flatnonzero(row):
                network.add_edge((depth, int(j)), (depth + 1, i), capacity=row[j])
    return network, len(layers)


def test_flow_is_the_maximum_flow_of_networkx():
    pytest.importorskip("igraph")
    graph = layers_of(14)
    network, depth = layered(graph)
    for query, key in [(13, 0), (13, 12), (7, 7), (9, 3)]:
        expected = networkx.maximum_flow_value(network, (0, key), (depth, query))
        found = graph.flow(query, key)
        assert found.value == pytest.approx(expected, abs=1e-12)
        edges = found.edges
        into = edges["flow"][(edges["layer"] == depth - 1) & (edges["query"] == query)].sum()
        out_of = edges["flow"][(edges["layer"] == 0) & (edges["key"] == key)].sum()
        assert into == pytest.approx(found.value, abs=1e-12) and out_of == pytest.approx(found.value, abs=1e-12)


def test_flow_takes_no_way_that_is_not_there():
    pytest.importorskip("igraph")
    graph = ag.from_matrix([[[[1, 0, 0], [0, 1, 0], [0, 1, 0]]]] * 2, threshold=0.5)
    assert graph.flow(2, 0).value == 0 and len(graph.flow(2, 0).edges) == 0
    assert graph.flow(2, 1).value == pytest.approx(1.0)  # by 1 and by 2, half each
    assert layers_of(9).flow(4, 6).value == 0  # causal


@pytest.mark.parametrize(
    "arguments, error, words",
    [
        ({"query": 14, "key": 0}, ag.errors.ArgumentError, "the graph has 14 positions"),
        ({"query": -1, "key": 0}, ag.errors.ArgumentError, "query"),
        ({"query": 1, "key": 0, "batch": 2}, ag.errors.NotFoundError, "no batch 2"),
        ({"query": 1, "key": 0, "residual": 2}, ag.errors.ArgumentError, "residual is 2"),
        ({"query": 1, "key": 0, "fusion": "median"}, ag.errors.ArgumentError, "fusion"),
    ],
)
def test_flow_says_what_is_wrong(arguments, error, words):
    pytest.importorskip("igraph")
    with pytest.raises(error, match=words):
        layers_of(14).flow(**arguments)


def token_graph(graph, threshold=0.0):
    """Summed weights of all heads and layers."""
    network = networkx.DiGraph()
    network.add_nodes_from(range(graph.slices[0].key_count))
    edges = graph.edges
    for i, j, weight in zip(edges["query"].tolist(), edges["key"].tolist(), edges["weight"].tolist()):
        before = network.edges[i, j]["weight"] if network.has_edge(i, j) else 0.0
        network.add_edge(i, j, weight=before + weight)
    return network


@pytest.mark.parametrize("damping", [0.85, 0.5, 0.0])
def test_pagerank_is_that_of_networkx(damping):
    graph = layers_of(40, threshold=0.1).filter(0.1, queries=(3, None))  # the first three point nowhere
    expected = networkx.pagerank(token_graph(graph), alpha=damping, tol=1e-14, max_iter=10_000)
    assert graph.pagerank(damping=damping) == pytest.approx([expected[n] for n in range(40)], abs=1e-11)


def test_components_are_those_of_networkx():
    graph = layers_of(60, layers=1, heads=1, threshold=0.5).filter(0.5, without_first=True)
    network = token_graph(graph)
    for connection, theirs in (
        ("weak", networkx.weakly_connected_components(network)),
        ("strong", networkx.strongly_connected_components(network)),
    ):
        numbers = graph.components(connection=connection)
        ours = {frozenset(np.flatnonzero(numbers == n).tolist()) for n in set(numbers.tolist())}
        assert ours == {frozenset(part) for part in theirs}
        assert len(ours) > 1


def test_queries_stand_where_they_stand():
    step = ag.from_matrix([[0.0, 0.0, 1.0, 0.0]], threshold=0.5).filter(0.5)
    late = ag.extract(np.zeros((1, 1, 4)), np.zeros((1, 4, 4)), threshold=0.1)  # one query, at position 3
    assert late.components().tolist() == [0, 0, 0, 0] and len(step.pagerank()) == 4


def test_two_sequences_are_refused():
    graph = ag.from_matrix([[0.5, 0.5]], tokens=["chat", "noir"], query_tokens=["cat"])
    for ask in (graph.pagerank, graph.components):
        with pytest.raises(ag.errors.ShapeError, match="one sequence"):
            ask()
    with pytest.raises(ag.errors.ArgumentError, match="damping is 1"):
        layers_of(4).pagerank(damping=1)
