"""A CUDA device that is not there: copies are put on streams and run when somebody waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch


class FakeStream:
    """Work in its order; ``log`` is what all streams of the device module share."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self._log = name, log
        self.queue: list[Callable[[], Any]] = []

    def wait_stream(self, other: FakeStream) -> None:
        self._log.append(f"{self.name} waits for {other.name}")

    def wait_event(self, event: FakeEvent) -> None:
        assert event.stream is not None, "never recorded"
        self._log.append(f"{self.name} waits for an event of {event.stream.name}")

    def run(self, count: int) -> None:
        """What was put here first, up to ``count`` pieces in all."""
        for work in self.queue[:count]:
            work()
        self.queue[:count] = [_done] * min(count, len(self.queue))


def _done() -> None:
    pass


class FakeEvent:
    def __init__(self) -> None:
        self.stream: FakeStream | None = None
        self._count = 0

    def record(self, stream: FakeStream) -> None:
        self.stream, self._count = stream, len(stream.queue)

    def synchronize(self) -> None:
        assert self.stream is not None, "never recorded"
        self.stream.run(self._count)


class FakeCuda:
    """The part of ``torch.cuda`` that copies need."""

    Event = FakeEvent

    def __init__(self) -> None:
        self.log: list[str] = []
        self.streams: list[FakeStream] = []
        self._training: dict[torch.device, FakeStream] = {}
        self._entered: list[FakeStream] = []

    def Stream(self, device: torch.device) -> FakeStream:
        made = FakeStream(f"copy-{device.index}", self.log)
        self.streams.append(made)
        return made

    def current_stream(self, device: torch.device) -> FakeStream:
        default = FakeStream(f"training-{device.index}", self.log)
        return self._training.setdefault(device, default)

    @contextmanager
    def stream(self, stream: FakeStream) -> Iterator[None]:
        self._entered.append(stream)
        yield
        self._entered.pop()

    def tensor(self, tensor: torch.Tensor, index: int = 0) -> OnDevice:
        """``tensor`` as if it lay on device ``index``."""
        made = tensor.as_subclass(OnDevice)
        made.fake, made.number = self, index
        return made

    def put(self, work: Callable[[], Any]) -> None:
        assert self._entered, "a copy on the training's stream"
        self._entered[-1].queue.append(work)


class OnDevice(torch.Tensor):
    """A host tensor that says it is on a device, and whose copies to the host are put off."""

    fake: FakeCuda
    number: int

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return torch.device("cuda", self.number)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        source = next((each for each in args if isinstance(each, OnDevice)), None)
        if func is torch.Tensor.copy_:
            target, piece = args[0], args[1].as_subclass(torch.Tensor)
            assert (kwargs or {})["non_blocking"] is True
            assert source is not None
            source.fake.put(lambda: target.copy_(piece))
            return target
        made = super().__torch_function__(func, types, args, kwargs)  # type: ignore[no-untyped-call]
        if isinstance(made, OnDevice) and source is not None:
            made.fake, made.number = source.fake, source.number
        return made
