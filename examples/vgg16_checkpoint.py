"""VGG-16 with a checkpoint every 50 steps: about a minute on one core.

    python examples/vgg16_checkpoint.py runs/vgg16

Kill it however you like and start it again with the same command: it goes on after the newest
checkpoint, in the middle of an epoch too, and its losses are those of a run that nothing happened
to. While it runs or afterwards: ``remora checkpoint ls runs/vgg16``.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import remora
from remora.workloads.vision.vgg import Vgg16, VggSizes

CLASSES = 10


class Pictures(Dataset[tuple[Tensor, int]]):
    """Made pictures: each class has one of its own, under noise that is the sample's."""

    def __init__(self, side: int, count: int = 480) -> None:
        drawn = torch.Generator().manual_seed(0)
        self.of_class = torch.randn(CLASSES, 3, side, side, generator=drawn)
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        label = index % CLASSES
        noise = torch.randn(
            self.of_class[label].shape, generator=torch.Generator().manual_seed(index)
        )
        return self.of_class[label] + noise, label


def main() -> None:
    given = arguments()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    sizes = VggSizes(batch=given.batch, image=given.image, classes=CLASSES, width=16, hidden=1536)
    model = Vgg16(sizes)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, given.steps)
    loader = DataLoader(Pictures(given.image), batch_size=given.batch, shuffle=True)

    with remora.Checkpointer(given.folder, every=given.every, keep=3) as saver:
        step = (
            saver.restore(model=model, optimizer=optimizer, scheduler=scheduler, loader=loader) or 0
        )
        print(f"from step {step}", flush=True)
        while step < given.steps:
            for images, labels in loader:
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(model(images), labels)
                loss.backward()
                optimizer.step()
                scheduler.step()
                saver.step(step)
                step += 1
                if step % 10 == 0:
                    print(f"step {step:4}  loss {loss.item():.6f}", flush=True)
                if step == given.steps:
                    break
        saver.wait()
        stalled_ms = saver.counters.stalled_ns / 1e6
        print(f"{saver.counters.committed} checkpoints; training waited {stalled_ms:.0f} ms in all")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="VGG-16, checkpointed.")
    parser.add_argument("folder", help="where the checkpoints go")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--every", type=int, default=50, help="steps between checkpoints")
    parser.add_argument("--image", type=int, default=64, help="pixels a side, at least 32")
    parser.add_argument("--batch", type=int, default=4)
    return parser.parse_args()


if __name__ == "__main__":
    main()
