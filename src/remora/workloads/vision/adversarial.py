"""The session of two networks that train each other, each with an optimizer of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch.nn.functional import binary_cross_entropy

from remora.workloads.contract import Outcome, Work
from remora.workloads.optimizers import OptimizerSpec
from remora.workloads.sessions import Batch, BatchSession, default_generator


class AdversarialSession(BatchSession):
    """Steps the ``discriminator`` on real and made images, then the ``generator``.

    As in Goodfellow et al. 2014, algorithm 1 with one step of the discriminator, and the loss of
    section 3 that does not saturate. The device's generator is seeded anew for every step.
    """

    optimizer: torch.optim.Optimizer

    def __init__(
        self,
        model: torch.nn.Module,
        optimizer: OptimizerSpec,
        batches: Sequence[Batch],
        *,
        noise: tuple[int, ...],
        work: Work,
        device: torch.device,
        seed: int,
    ) -> None:
        super().__init__(batches)
        self.model = model.train()
        self.device = device
        self.work = work
        self._generator = model.get_submodule("generator")
        self._discriminator = model.get_submodule("discriminator")
        self._of_discriminator = optimizer.make(self._discriminator.parameters())
        self.optimizer = optimizer.make(self._generator.parameters())
        self._noise, self._numbers, self._seed = noise, default_generator(device), seed

    @property
    def optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        return {"discriminator": self._of_discriminator, "generator": self.optimizer}

    def step(self) -> Outcome:
        self._numbers.manual_seed(self._seed + self._steps)
        real = self._next_batch()["images"]
        made = self._generator(torch.randn(self._noise, device=self.device))
        seen = self._train_discriminator(real, made.detach())
        passed = self._train_generator(made)
        for optimizer in self.optimizers.values():
            optimizer.zero_grad()
        return Outcome(torch.stack([seen, passed]))

    def _train_discriminator(self, real: torch.Tensor, made: torch.Tensor) -> torch.Tensor:
        of_real, of_made = self._loss(real, is_real=True), self._loss(made, is_real=False)
        of_real.backward()
        of_made.backward()
        self._of_discriminator.step()
        return (of_real + of_made).detach()

    def _train_generator(self, made: torch.Tensor) -> torch.Tensor:
        """Leaves gradients in the discriminator, too, which nobody steps by."""
        loss = self._loss(made, is_real=True)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def _loss(self, images: torch.Tensor, *, is_real: bool) -> torch.Tensor:
        passes = self._discriminator(images)
        return binary_cross_entropy(passes, torch.full_like(passes, float(is_real)))
