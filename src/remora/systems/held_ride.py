"""Riding a session whose model is held by a framework in another process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import psutil
import torch

from remora.systems.contract import Moved, Ride
from remora.workloads.contract import Outcome, Session
from remora.workloads.language.decoding import DecodeSession


class Holder(Protocol):
    """A framework's way of calling a :class:`~remora.systems.held_model.HeldModel`."""

    def call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """One call of the model."""
        ...

    def read(self, tokens: torch.Tensor) -> int:
        """Read tokens; the token after them."""
        ...

    def forget(self, count: int) -> None:
        """Forget the last ``count`` tokens."""
        ...


class HeldRide(Ride):
    """Every call of the model, or every token, is one call of the holder.

    Bytes are those that the loopback interface carried, both ways counted once: what the framework
    moves through shared memory is not among them, and what other processes send there is.
    """

    def __init__(self, session: Session, holder: Holder, close: Callable[[], None]) -> None:
        super().__init__(session)
        self._holder, self._close = holder, close
        self._module = session.model
        if isinstance(session, DecodeSession):
            self._first = holder.read(session.prompt)
        else:
            session.model = _Proxy(holder, session.model)  # type: ignore[assignment]
        self._before = _loopback_bytes()

    def step(self) -> Outcome:
        if not isinstance(self.session, DecodeSession):
            return self.session.step()
        tokens = [self._first]
        for _ in range(self.session.new_tokens):
            tokens.append(self._holder.read(torch.tensor([tokens[-1:]])))
        self._holder.forget(self.session.new_tokens)
        return Outcome(torch.tensor([tokens[1:]]))

    def moved(self) -> Moved:
        return Moved(wire_bytes=_loopback_bytes() - self._before)

    def close(self) -> None:
        self.session.model = self._module
        self._close()


class _Proxy:
    """Stands where the session's model was."""

    def __init__(self, holder: Holder, module: torch.nn.Module) -> None:
        self._holder, self._module = holder, module

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._holder.call(args, kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def _loopback_bytes() -> int:
    counters = psutil.net_io_counters(pernic=True).get("lo")
    return 0 if counters is None else int(counters.bytes_sent)
