"""Networks on graphs: what reaches a node is what its neighbours hold."""

from __future__ import annotations

import pytest
import torch

from remora.workloads import registry
from remora.workloads.graph.citations import GraphSizes, citation_graph
from remora.workloads.model_workload import ModelWorkload

CPU = torch.device("cpu")
SIZES = GraphSizes(nodes=40, features=30, edges=50, classes=3, labelled=9, width=4)


def test_every_citation_goes_both_ways_and_every_node_to_itself() -> None:
    graph = citation_graph(SIZES, CPU, seed=1)
    edges = list(zip(graph["sources"].tolist(), graph["targets"].tolist(), strict=True))
    assert len(edges) == 2 * 50 + 40
    assert sorted(edges) == sorted((target, source) for source, target in edges)
    assert sorted(source for source, target in edges if source == target) == list(range(40))
    torch.testing.assert_close(graph["features"].sum(1), torch.ones(40))
    assert len(set(graph["labelled"].tolist())) == 9


@pytest.mark.parametrize("name", ["gcn-train", "gat-train"])
def test_a_node_sees_its_neighbours_neighbours_and_no_others(name: str) -> None:
    """GIVEN two layers WHEN one node's features change THEN the logits of just those change that
    are two edges away or nearer."""
    workload = registry.get(name)
    assert isinstance(workload, ModelWorkload)
    session = workload.build("quick", CPU)
    model = session.model.eval()
    graph = dict(workload.batches(workload.table["quick"], CPU, 0, None)[0])
    nodes = len(graph["features"])
    joined = torch.zeros(nodes, nodes)
    joined[graph["targets"], graph["sources"]] = 1
    near = (joined @ joined)[:, 0] > 0

    with torch.no_grad():
        before = model(graph)
        graph["features"] = graph["features"].clone()
        graph["features"][0] += 1
        changed = (model(graph) != before).any(1)

    assert torch.equal(changed, near)
    assert 1 < int(near.sum()) < nodes // 2


def test_convolution_is_the_published_product() -> None:
    """D^-1/2 A D^-1/2 X W, with a dense adjacency in float64."""
    workload = registry.get("gcn-train")
    assert isinstance(workload, ModelWorkload)
    graph = workload.batches(workload.table["quick"], CPU, 0, None)[0]
    layer = workload.build("quick", CPU).model.get_submodule("hidden")
    adjacency = torch.zeros(len(graph["features"]), len(graph["features"])).double()
    adjacency.index_put_(
        (graph["targets"], graph["sources"]), torch.ones(()).double(), accumulate=True
    )
    degrees = adjacency.sum(1)
    scaled = adjacency / (degrees[:, None] * degrees).sqrt()
    weight = layer.get_parameter("linear.weight").double()
    expected = scaled @ graph["features"].double() @ weight.T
    torch.testing.assert_close(layer(graph["features"], graph).double(), expected)
