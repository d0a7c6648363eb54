"""A graph convolutional network that labels the nodes of one graph, all of them in each step."""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn, optim
from torch.nn import functional

parser = argparse.ArgumentParser()
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--batch-size", type=int, default=16)
parser.add_argument("--steps", type=int, default=40)
given = parser.parse_args()
torch.manual_seed(given.seed)
NODES, FEATURES, CLASSES = 8 * given.batch_size, 32, 4


class GraphConvolution(nn.Module):
    def __init__(self, features: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(features, outputs))
        self.bias = nn.Parameter(torch.empty(outputs))
        nn.init.kaiming_normal_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        return torch.mm(adjacency, torch.mm(x, self.weight)) + self.bias


class GCN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gc1, self.gc2 = GraphConvolution(FEATURES, 16), GraphConvolution(16, CLASSES)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        x = self.dropout(functional.relu(self.gc1(x, adjacency)))
        return functional.log_softmax(self.gc2(x, adjacency), dim=1)


labels = torch.randint(CLASSES, (NODES,))
features = torch.randn(CLASSES, FEATURES)[labels] + torch.randn(NODES, FEATURES)
edges = ((labels[:, None] == labels) & (torch.rand(NODES, NODES) < 0.2)).float()
edges = ((edges + edges.T).clamp(max=1.0) + torch.eye(NODES)).clamp(max=1.0)
degree = edges.sum(1).rsqrt()
adjacency = degree[:, None] * edges * degree
train, validate = slice(0, NODES // 2), slice(NODES // 2, NODES)

model = GCN()
criterion = nn.NLLLoss()
optimizer = optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
for epoch in range(given.steps):
    model.train()
    optimizer.zero_grad()
    output = model(features, adjacency)
    loss = criterion(output[train], labels[train])
    loss.backward()
    optimizer.step()
    model.eval()
    with torch.no_grad():
        output = model(features, adjacency)
        correct = int((output[validate].argmax(dim=1) == labels[validate]).sum())
    if epoch % 10 == 0:
        print(f"epoch {epoch}: loss {loss.item():.3f}, {correct} correct")
