"""Images classified by a residual network of 18 layers, validated after every epoch."""

from __future__ import annotations

import argparse
from itertools import pairwise

import torch
from torch import Tensor, nn, optim
from torch.utils.data import DataLoader, TensorDataset

parser = argparse.ArgumentParser()
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--batch-size", type=int, default=16)
parser.add_argument("--steps", type=int, default=20)
given = parser.parse_args()
torch.manual_seed(given.seed)
EPOCHS, WIDTH, CLASSES = 2, 8, 10


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1, self.relu = nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            shorter = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(shorter, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += x if self.downsample is None else self.downsample(x)
        result: Tensor = self.relu(out)
        return result


class ResNet18(nn.Sequential):
    def __init__(self) -> None:
        widths = [WIDTH, WIDTH, 2 * WIDTH, 4 * WIDTH, 8 * WIDTH]
        blocks = []
        for stage, (inputs, outputs) in enumerate(pairwise(widths)):
            first = Block(inputs, outputs, 1 if stage == 0 else 2)
            blocks += [first, Block(outputs, outputs, 1)]
        super().__init__(
            nn.Conv2d(3, WIDTH, 7, 2, 3, bias=False), nn.BatchNorm2d(WIDTH),
            nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1), *blocks,
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8 * WIDTH, CLASSES),
        )  # fmt: skip


def loader(batches: int, shuffle: bool) -> DataLoader[tuple[Tensor, ...]]:
    labels = torch.randint(CLASSES, (batches * given.batch_size,))
    images = torch.randn(CLASSES, 3, 32, 32)[labels] + torch.randn(len(labels), 3, 32, 32)
    return DataLoader(TensorDataset(images, labels), given.batch_size, shuffle)


train_loader, val_loader = loader(given.steps // EPOCHS, True), loader(4, False)
model = ResNet18()
criterion = nn.CrossEntropyLoss()
optimizer = optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=30, gamma=0.1)
for epoch in range(EPOCHS):
    model.train()
    for images, target in train_loader:
        loss = criterion(model(images), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    correct = 0
    with torch.no_grad():
        for images, target in val_loader:
            output = model(images)
            criterion(output, target)
            correct += int((output.topk(1)[1].squeeze(1) == target).sum())
    scheduler.step()
    print(f"epoch {epoch}: loss {loss.item():.3f}, {correct} correct")
