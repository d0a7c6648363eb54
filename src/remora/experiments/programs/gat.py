"""A graph attention network that labels the nodes of one graph, all of them in each step."""

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
NODES, FEATURES, CLASSES = 6 * given.batch_size, 24, 4


class GraphAttention(nn.Module):
    def __init__(self, features: int, outputs: int, heads: int) -> None:
        super().__init__()
        self.heads, self.width = heads, outputs // heads
        self.project = nn.Parameter(torch.empty(features, outputs))
        self.attend = nn.Parameter(torch.empty(heads, 2 * self.width, 1))
        self.leaky_relu, self.softmax = nn.LeakyReLU(0.2), nn.Softmax(dim=1)
        nn.init.xavier_normal_(self.project)
        nn.init.xavier_normal_(self.attend)

    def forward(self, h: Tensor, edges: Tensor) -> Tensor:
        h = torch.mm(h, self.project).view(len(h), self.heads, self.width).permute(1, 0, 2)
        source = h @ self.attend[:, : self.width]
        target = h @ self.attend[:, self.width :]
        scores = self.leaky_relu(source + target.mT)
        weights = self.softmax(scores.masked_fill(edges == 0, -9e16).permute(0, 2, 1))
        weights = functional.dropout(weights, 0.4, training=self.training)
        return (weights.mT @ h).permute(1, 0, 2).flatten(1)


class GAT(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gat1, self.gat2 = GraphAttention(FEATURES, 16, 4), GraphAttention(16, CLASSES, 1)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        x = functional.elu(self.gat1(x, edges))
        return functional.log_softmax(self.gat2(x, edges), dim=1)


labels = torch.randint(CLASSES, (NODES,))
features = torch.randn(CLASSES, FEATURES)[labels] + torch.randn(NODES, FEATURES)
edges = ((labels[:, None] == labels) & (torch.rand(NODES, NODES) < 0.3)).float()
edges = (edges + edges.T + torch.eye(NODES)).clamp(max=1.0)
train, validate = slice(0, NODES // 2), slice(NODES // 2, NODES)


def evaluate(model: nn.Module, nodes: slice) -> int:
    model.eval()
    with torch.no_grad():
        return int((model(features, edges)[nodes].argmax(dim=1) == labels[nodes]).sum())


model = GAT()
criterion = nn.NLLLoss()
optimizer = optim.Adam(model.parameters(), lr=0.005, weight_decay=5e-4)
for epoch in range(given.steps):
    model.train()
    optimizer.zero_grad()
    loss = criterion(model(features, edges)[train], labels[train])
    loss.backward()
    optimizer.step()
    if epoch % 10 == 0:
        print(f"epoch {epoch}: loss {loss.item():.3f}, {evaluate(model, validate)} correct")
print(f"{evaluate(model, validate)} correct")
