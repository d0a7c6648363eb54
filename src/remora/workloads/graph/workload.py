"""Classify the nodes of a graph, some of whose classes are known."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy

from remora.core.errors import BadValue
from remora.workloads.contract import Work
from remora.workloads.graph.citations import GraphSizes, citation_graph
from remora.workloads.model_workload import ModelWorkload
from remora.workloads.sessions import Batch


@dataclass(eq=False)
class GraphWorkload(ModelWorkload[GraphSizes]):
    """Each step sees the whole graph; the outcome is the cross entropy of the labelled nodes."""

    def batches(
        self, sizes: GraphSizes, device: torch.device, seed: int, data: Path | None
    ) -> Sequence[Batch]:
        if data is not None:
            raise BadValue(f"{self.name} reads no local data; leave out --data")
        graph = citation_graph(sizes, device, seed)
        return [{**graph, **self.edges(graph)}]

    @abstractmethod
    def edges(self, graph: Batch) -> Batch:
        """The graph's edges in the form that the network reads, made once."""

    def apply(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        known = batch["labelled"]
        return cross_entropy(model(batch)[known], batch["labels"][known])

    def work(self, sizes: GraphSizes) -> Work:
        return Work(sizes.nodes, "nodes")
