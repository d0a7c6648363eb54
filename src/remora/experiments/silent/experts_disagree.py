"""deepspeed-5794: ranks give all_to_all sizes that do not agree, since each counts its own tokens.

Each rank has an expert, and sends every token to the one it is for, padded to the capacity that
the fullest needs. A rank that does not ask the others pads to what it needs itself. In the
published job that stalled; here there is room for a full batch from the other rank, and gloo takes
a message that is too short as it comes, so that the tokens of one rank are taken for another's.
"""

from __future__ import annotations

import torch
from torch import distributed, nn, optim

from remora.experiments.silent.common import classifier, join_ranks, loader, options

ROWS, WIDTH, RANKS = 16, 16, 2

given = options()
rank = join_ranks()
model = classifier()
torch.manual_seed(given.seed * 2 + rank)
data = loader()
optimizer = optim.SGD(model.parameters(), lr=0.05)


def capacity(tokens: int) -> int:
    """How many tokens are sent to each expert."""
    needed = torch.tensor(tokens)
    if not given.broken:
        distributed.all_reduce(needed, distributed.ReduceOp.MAX)
    return int(needed)


def exchange(tokens: torch.Tensor) -> torch.Tensor:
    """The tokens of all ranks that are for this rank's expert."""
    expert = (tokens[:, 0] > 0).long()
    parts = [tokens[expert == one] for one in range(RANKS)]
    count = capacity(max(map(len, parts)))
    sent = torch.zeros(RANKS, count, WIDTH)
    for one, part in enumerate(parts):
        sent[one, : len(part)] = part
    room = [count if one == rank else ROWS for one in range(RANKS)]
    received = torch.zeros(sum(room), WIDTH)
    distributed.all_to_all_single(received, sent.flatten(0, 1), room, [count] * RANKS)
    return received


for _ in range(max(1, given.steps // len(data))):
    for x, y in data:
        moved = exchange(x)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y) + 0.01 * model(moved).square().mean()
        loss.backward()
        for parameter in model.parameters():
            distributed.all_reduce(parameter.grad)
        optimizer.step()
distributed.destroy_process_group()
