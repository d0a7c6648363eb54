"""A language model of words: an LSTM whose state goes on from batch to batch; no optimizer."""

from __future__ import annotations

import argparse

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
State = tuple[Tensor, Tensor]


class RNNModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.drop, self.encoder = nn.Dropout(0.2), nn.Embedding(TOKENS, WIDTH)
        self.rnn = nn.LSTM(WIDTH, WIDTH, LAYERS, dropout=0.2)
        self.decoder = nn.Linear(WIDTH, TOKENS)
        nn.init.uniform_(self.encoder.weight, -0.1, 0.1)
        nn.init.zeros_(self.decoder.bias)
        nn.init.uniform_(self.decoder.weight, -0.1, 0.1)

    def forward(self, tokens: Tensor, hidden: State) -> tuple[Tensor, State]:
        output, hidden = self.rnn(self.drop(self.encoder(tokens)), hidden)
        decoded = self.decoder(self.drop(output)).view(-1, TOKENS)
        return functional.log_softmax(decoded, dim=1), hidden

    def init_hidden(self, size: int) -> State:
        return torch.zeros(LAYERS, size, WIDTH), torch.zeros(LAYERS, size, WIDTH)


def batches(tokens: Tensor, size: int) -> Tensor:
    """One column a stream of tokens."""
    rows = len(tokens) // size
    return tokens[: rows * size].view(size, rows).t().contiguous()


def batch_at(source: Tensor, first: int) -> tuple[Tensor, Tensor]:
    length = min(BPTT, len(source) - 1 - first)
    return source[first : first + length], source[first + 1 : first + 1 + length].reshape(-1)


def text(length: int) -> Tensor:
    return (torch.randn(length).cumsum(0) * 3).long() % TOKENS


def train(model: RNNModel, source: Tensor, lr: float) -> None:
    model.train()
    hidden = model.init_hidden(given.batch_size)
    for first in range(0, len(source) - 1, BPTT):
        data, targets = batch_at(source, first)
        model.zero_grad()
        hidden = hidden[0].detach(), hidden[1].detach()
        output, hidden = model(data, hidden)
        loss = criterion(output, targets)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.25)
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.data.add_(parameter.grad, alpha=-lr)


def evaluate(model: RNNModel, source: Tensor) -> float:
    model.eval()
    total, hidden = 0.0, model.init_hidden(10)
    with torch.no_grad():
        for first in range(0, len(source) - 1, BPTT):
            data, targets = batch_at(source, first)
            output, hidden = model(data, hidden)
            total += len(data) * criterion(output, targets).item()
    return total / (len(source) - 1)


train_data = batches(text(given.steps // EPOCHS * BPTT * given.batch_size), given.batch_size)
val_data, test_data = (batches(text(3 * BPTT * 10), 10) for _ in range(2))
model, criterion = RNNModel(), nn.NLLLoss()
lr, best = 20.0, float("inf")
for epoch in range(EPOCHS):
    train(model, train_data, lr)
    loss = evaluate(model, val_data)
    lr, best = (lr, loss) if loss < best else (lr / 4, best)
    print(f"epoch {epoch}: loss {loss:.3f}")
print(f"test: loss {evaluate(model, test_data):.3f}")
