"""Shuffled epochs with validation in between, early stopping on a mean, a schedule, a best file."""
# mypy: ignore-errors

import hashlib
import time

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def digest(state):
    data = b"".join(each.detach().numpy().tobytes() for each in state.values())
    return hashlib.sha256(data).hexdigest()


def main():
    torch.manual_seed(1)
    inputs = torch.randn(640, 8)
    labels = (inputs.sum(1) > 0).long()
    train = DataLoader(TensorDataset(inputs, labels), batch_size=16, shuffle=True)
    held_out = DataLoader(TensorDataset(inputs[:128], labels[:128]), batch_size=32)
    model = nn.Sequential(
        nn.Linear(8, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 2)
    )
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 30, 0.5)
    best, recent = float("inf"), []
    for epoch in range(4):
        model.train()
        total, seen, right = 0.0, 0, 0
        for index, (x, y) in enumerate(train):
            out = model(x)
            loss = criterion(out, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total, seen = total + loss.item() * len(x), seen + len(x)
            right += (out.argmax(1) == y).sum().item()
            if index % 5 == 0:
                rate = schedule.get_last_lr()
                print(
                    epoch, index, f"{loss:.9f} {total / seen:.9f} {right / seen}", rate, flush=True
                )
            time.sleep(0.005)
        model.eval()
        with torch.no_grad():
            score = sum(criterion(model(x), y).item() for x, y in held_out)
        recent = [*recent[-2:], score]
        print("held out", score, flush=True)
        if score < best:
            best = score
            torch.save(model.state_dict(), "best.pt")
        if epoch > 2 and sum(recent) / len(recent) < 1.0:
            print("early stop", epoch)
            break
    print(digest(model.state_dict()), digest(torch.load("best.pt")))


main()
