"""Digits read row by row by an LSTM."""

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


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(input_size=28, hidden_size=32, batch_first=True)
        self.batchnorm = nn.BatchNorm1d(32)
        self.dropout1, self.dropout2 = nn.Dropout(0.25), nn.Dropout(0.5)
        self.fc1, self.fc2 = nn.Linear(32, 16), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        output, _ = self.rnn(x.reshape(-1, 28, 28))
        x = self.dropout1(self.batchnorm(output[:, -1]))
        x = self.dropout2(functional.relu(self.fc1(x)))
        return functional.log_softmax(self.fc2(x), dim=1)


def loader(batches: int, shuffle: bool) -> DataLoader[tuple[Tensor, ...]]:
    labels = torch.randint(10, (batches * given.batch_size,))
    images = torch.randn(10, 1, 28, 28)[labels] + torch.randn(len(labels), 1, 28, 28)
    return DataLoader(TensorDataset(images, labels), given.batch_size, shuffle)


def train(model: Net, data: DataLoader[tuple[Tensor, ...]], optimizer: optim.Optimizer) -> None:
    model.train()
    for step, (images, labels) in enumerate(data):
        optimizer.zero_grad()
        loss = functional.nll_loss(model(images), labels)
        loss.backward()
        optimizer.step()
        if step % 10 == 0:
            print(f"step {step}: loss {loss.item():.3f}")


def test(model: Net, data: DataLoader[tuple[Tensor, ...]]) -> None:
    model.eval()
    test_loss = 0.0
    with torch.no_grad():
        for images, labels in data:
            test_loss += functional.nll_loss(model(images), labels, reduction="sum").item()
    print(f"test: loss {test_loss:.1f}")


train_loader, test_loader = loader(given.steps // EPOCHS, True), loader(4, False)
model = Net()
optimizer = optim.Adadelta(model.parameters(), lr=0.1)
scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.7)
for _ in range(EPOCHS):
    train(model, train_loader, optimizer)
    test(model, test_loader)
    scheduler.step()
