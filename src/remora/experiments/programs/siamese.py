"""Two images are told to be of one kind or of two, by a network that looks at each alike."""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn, optim
from torch.utils.data import DataLoader, TensorDataset

parser = argparse.ArgumentParser()
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--batch-size", type=int, default=16)
parser.add_argument("--steps", type=int, default=40)
given = parser.parse_args()
torch.manual_seed(given.seed)
EPOCHS = 2


class Siamese(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 16, 3, 2), nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(2),
        )  # fmt: skip
        self.fc = nn.Sequential(nn.Linear(128, 32), nn.ReLU(inplace=True), nn.Linear(32, 1))
        self.sigmoid = nn.Sigmoid()
        self.apply(self.initialise)

    def initialise(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            module.bias.data.fill_(0.01)

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        both = [self.features(image).flatten(1) for image in (one, other)]
        verdict: Tensor = self.sigmoid(self.fc(torch.cat(both, 1)))
        return verdict


def loader(batches: int, shuffle: bool) -> DataLoader[tuple[Tensor, ...]]:
    count = batches * given.batch_size
    kinds = torch.randint(10, (2, count))
    kinds[1, ::2] = kinds[0, ::2]
    first, second = torch.randn(10, 1, 28, 28)[kinds] + 0.5 * torch.randn(2, count, 1, 28, 28)
    alike = (kinds[0] == kinds[1]).float()
    return DataLoader(TensorDataset(first, second, alike), given.batch_size, shuffle)


train_loader, test_loader = loader(given.steps // EPOCHS, True), loader(4, False)
model = Siamese()
criterion = nn.BCELoss()
optimizer = optim.Adadelta(model.parameters(), lr=1.0)
scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.7)
for epoch in range(EPOCHS):
    model.train()
    for first, second, alike in train_loader:
        optimizer.zero_grad()
        outputs = model(first, second).squeeze()
        loss = criterion(outputs, alike)
        loss.backward()
        optimizer.step()
    model.eval()
    test_loss, correct = 0.0, 0
    with torch.no_grad():
        for first, second, alike in test_loader:
            outputs = model(first, second).squeeze()
            test_loss += criterion(outputs, alike).sum().item()
            correct += int(((outputs > 0.5) == alike).sum())
    print(f"epoch {epoch}: loss {test_loss:.2f}, {correct} correct")
    scheduler.step()
