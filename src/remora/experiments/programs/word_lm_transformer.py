"""A language model of words: a transformer encoder with a causal mask; no optimizer."""

from __future__ import annotations

import argparse
import math

import torch
from torch import Tensor, nn
from torch.nn import functional

parser = argparse.ArgumentParser()
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--batch-size", type=int, default=16)
parser.add_argument("--steps", type=int, default=40)
given = parser.parse_args()
torch.manual_seed(given.seed)
EPOCHS, BPTT, TOKENS, WIDTH, LAYERS = 2, 12, 60, 24, 2


class PositionalEncoding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.2)
        place = torch.arange(100.0)[:, None]
        rate = torch.exp(torch.arange(0, WIDTH, 2) * (-math.log(10000.0) / WIDTH))
        waves = torch.stack([torch.sin(place * rate), torch.cos(place * rate)], -1)
        self.register_buffer("waves", waves.flatten(1)[:, None])

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.dropout(x + self.get_buffer("waves")[: len(x)])
        return result


class TransformerModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.position = nn.Embedding(TOKENS, WIDTH), PositionalEncoding()
        layer = nn.TransformerEncoderLayer(WIDTH, 2, 2 * WIDTH, 0.2)
        self.encoder = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.decoder = nn.Linear(WIDTH, TOKENS)
        nn.init.uniform_(self.embed.weight, -0.1, 0.1)
        nn.init.zeros_(self.decoder.bias)
        nn.init.uniform_(self.decoder.weight, -0.1, 0.1)

    def forward(self, tokens: Tensor) -> Tensor:
        mask = torch.log(torch.tril(torch.ones(len(tokens), len(tokens))))
        x = self.position(self.embed(tokens) * math.sqrt(WIDTH))
        return functional.log_softmax(self.decoder(self.encoder(x, mask=mask)), dim=-1)


def batches(tokens: Tensor, size: int) -> Tensor:
    """One column a stream of tokens."""
    rows = len(tokens) // size
    return tokens[: rows * size].view(size, rows).t().contiguous()


def batch_at(source: Tensor, first: int) -> tuple[Tensor, Tensor]:
    length = min(BPTT, len(source) - 1 - first)
    return source[first : first + length], source[first + 1 : first + 1 + length].reshape(-1)


def text(length: int) -> Tensor:
    return (torch.randn(length).cumsum(0) * 3).long() % TOKENS


def evaluate(model: TransformerModel, source: Tensor) -> float:
    model.eval()
    total = 0.0
    with torch.no_grad():
        for first in range(0, len(source) - 1, BPTT):
            data, targets = batch_at(source, first)
            total += len(data) * criterion(model(data).view(-1, TOKENS), targets).item()
    return total / (len(source) - 1)


train_data = batches(text(given.steps // EPOCHS * BPTT * given.batch_size), given.batch_size)
val_data, test_data = (batches(text(3 * BPTT * 10), 10) for _ in range(2))
model, criterion, lr = TransformerModel(), nn.NLLLoss(), 2.0
for epoch in range(EPOCHS):
    model.train()
    for first in range(0, len(train_data) - 1, BPTT):
        data, targets = batch_at(train_data, first)
        model.zero_grad()
        loss = criterion(model(data).view(-1, TOKENS), targets)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.25)
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.data.add_(parameter.grad, alpha=-lr)
    print(f"epoch {epoch}: loss {evaluate(model, val_data):.3f}")
print(f"test: loss {evaluate(model, test_data):.3f}")
