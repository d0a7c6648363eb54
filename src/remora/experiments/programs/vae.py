"""A variational autoencoder of images, whose samples are drawn after every epoch."""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn, optim
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

parser = argparse.ArgumentParser()
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--batch-size", type=int, default=16)
parser.add_argument("--steps", type=int, default=40)
given = parser.parse_args()
torch.manual_seed(given.seed)
EPOCHS = 2


class VAE(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc21, self.fc22 = nn.Linear(784, 64), nn.Linear(64, 8), nn.Linear(64, 8)
        self.fc3, self.fc4 = nn.Linear(8, 64), nn.Linear(64, 784)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = functional.relu(self.fc1(x))
        return self.fc21(h), self.fc22(h)

    def reparameterize(self, mean: Tensor, log_variance: Tensor) -> Tensor:
        deviation = torch.exp(0.5 * log_variance)
        return mean + torch.randn_like(deviation) * deviation

    def decode(self, z: Tensor) -> Tensor:
        return torch.sigmoid(self.fc4(functional.relu(self.fc3(z))))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_variance = self.encode(x.view(-1, 784))
        return self.decode(self.reparameterize(mean, log_variance)), mean, log_variance


def loss_of(rebuilt: Tensor, x: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    likelihood = functional.binary_cross_entropy(rebuilt, x.view(-1, 784), reduction="sum")
    divergence = -0.5 * torch.sum(1 + log_variance - mean.pow(2) - log_variance.exp())
    return likelihood + divergence


def loader(count: int, shuffle: bool) -> DataLoader[tuple[Tensor, ...]]:
    images = torch.sigmoid(torch.randn(count, 4) @ torch.randn(4, 784)).view(count, 1, 28, 28)
    return DataLoader(TensorDataset(images, torch.zeros(count)), given.batch_size, shuffle)


train_loader = loader(given.steps // EPOCHS * given.batch_size, shuffle=True)
test_loader = loader(4 * given.batch_size - 5, shuffle=False)
model = VAE()
optimizer = optim.Adam(model.parameters(), lr=1e-3)
for epoch in range(EPOCHS):
    model.train()
    train_loss = 0.0
    for data, _ in train_loader:
        optimizer.zero_grad()
        rebuilt, mean, log_variance = model(data)
        loss = loss_of(rebuilt, data, mean, log_variance)
        loss.backward()
        train_loss += loss.item()
        optimizer.step()
    model.eval()
    test_loss = 0.0
    with torch.no_grad():
        for data, _ in test_loader:
            rebuilt, mean, log_variance = model(data)
            test_loss += loss_of(rebuilt, data, mean, log_variance).item()
        model.decode(torch.randn(16, 8))
    print(f"epoch {epoch}: loss {train_loss:.1f}, of the test {test_loss:.1f}")
