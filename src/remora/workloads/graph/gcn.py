"""The graph convolutional network: Kipf and Welling 2017."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from remora.workloads.contract import Workload
from remora.workloads.graph.citations import CORA, GraphSizes
from remora.workloads.graph.workload import GraphWorkload
from remora.workloads.optimizers import adam
from remora.workloads.sessions import Batch

_DROPOUT = 0.5


class _Convolution(nn.Module):
    """Each node's result is the sum of its neighbours', by the weights of their edges (eq. 2)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs, bias=False)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, nodes: torch.Tensor, batch: Batch) -> torch.Tensor:
        sent = self.linear(nodes)
        arriving = sent[batch["sources"]] * batch["weights"]
        return torch.zeros_like(sent).index_add(0, batch["targets"], arriving) + self.bias


class Gcn(nn.Module):
    """A graph to logits (nodes, classes)."""

    def __init__(self, sizes: GraphSizes) -> None:
        super().__init__()
        self.dropout = nn.Dropout(_DROPOUT)
        self.hidden = _Convolution(sizes.features, sizes.width)
        self.output = _Convolution(sizes.width, sizes.classes)

    def forward(self, batch: Batch) -> torch.Tensor:
        hidden = self.hidden(self.dropout(batch["features"]), batch).relu()
        logits: torch.Tensor = self.output(self.dropout(hidden), batch)
        return logits


@dataclass(eq=False)
class GcnWorkload(GraphWorkload):
    """Edges weigh less the more neighbours their ends have (section 2)."""

    def network(self, sizes: GraphSizes) -> nn.Module:
        return Gcn(sizes)

    def edges(self, graph: Batch) -> Batch:
        degrees = torch.zeros_like(graph["features"][:, 0])
        degrees = degrees.index_add(0, graph["targets"], torch.ones_like(graph["targets"]).float())
        scale = degrees.rsqrt()
        return {"weights": (scale[graph["sources"]] * scale[graph["targets"]])[:, None]}


def workloads() -> Iterator[Workload]:
    full = GraphSizes(**CORA, width=16)
    yield GcnWorkload(
        "gcn",
        "train",
        {"quick": GraphSizes(1024, 512, 2048, 7, 140, 16), "standard": full, "paper": full},
        "Kipf and Welling (ICLR 2017), section 5.2, on the sizes of Cora; dropout 0.5; "
        "a workload of TrainCheck (OSDI 2025)",
        optimizer=adam(lr=0.01, weight_decay=5e-4),
    )
