"""A made-up graph of citations with the sizes of a real one."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from remora.workloads.sessions import Batch

_WORDS_OF_A_PAPER = 18
"""Cora has 49,216 words in its 2,708 papers."""


@dataclass(frozen=True)
class GraphSizes:
    """Of a graph whose nodes are papers, and of the network that classifies them."""

    nodes: int
    features: int
    """Words of the vocabulary; a node's features say which of them its paper has."""
    edges: int
    """Citations, each in both directions later on."""
    classes: int
    labelled: int
    """Nodes whose class is known when training."""
    width: int
    """Of the hidden layer; of each head where there are several."""
    heads: int = 0


CORA = {"nodes": 2708, "features": 1433, "edges": 5429, "classes": 7, "labelled": 140}
"""The citation graph Cora as Yang et al. (ICML 2016), table 1, split it."""


def citation_graph(sizes: GraphSizes, device: torch.device, seed: int) -> Batch:
    """One batch, which is all there is.

    ``features`` (nodes, features), each row summing to 1; ``sources`` and ``targets`` (2 × edges +
    nodes,), every citation both ways and every node to itself; ``labels`` (nodes,) and the
    ``labelled`` nodes. Drawn on the host, so that it is the same on every device.
    """
    generator = torch.Generator().manual_seed(seed)

    def drawn(below: int, *shape: int) -> torch.Tensor:
        return torch.randint(below, shape, generator=generator)

    words = drawn(sizes.features, sizes.nodes, _WORDS_OF_A_PAPER)
    features = torch.zeros(sizes.nodes, sizes.features).scatter_(1, words, 1.0)
    citing = drawn(sizes.nodes, sizes.edges)
    cited = (citing + 1 + drawn(sizes.nodes - 1, sizes.edges)) % sizes.nodes  # never itself
    itself = torch.arange(sizes.nodes)
    graph = {
        "features": features / features.sum(1, keepdim=True),
        "sources": torch.cat([citing, cited, itself]),
        "targets": torch.cat([cited, citing, itself]),
        "labels": drawn(sizes.classes, sizes.nodes),
        "labelled": torch.randperm(sizes.nodes, generator=generator)[: sizes.labelled],
    }
    return {name: tensor.to(device) for name, tensor in graph.items()}
