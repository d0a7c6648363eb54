"""Riding a session whose model is held by a framework in another process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import psutil
import torch

from remora.core.errors import BadValue
from remora.systems.elsewhere import Crossed, ElsewhereRide
from remora.workloads.contract import Outcome, Session
from remora.workloads.language.decoding import DecodeSession


class Holder(Protocol):
    """A framework's way of calling a :class:`~remora.systems.held_model.HeldModel`."""

    def ask(self, method: str, *args: Any) -> Any:
        """What that method of the object gives for ``args``: one round trip."""
        ...


class HeldRide(ElsewhereRide):
    """Every call of the model, or every token, is one call of the holder.

    Args:
        loop_there: whether all tokens of a step are one call, and come back together.
    """

    def __init__(
        self,
        session: Session,
        holder: Holder,
        close: Callable[[], None],
        *,
        crossed: Callable[[], Crossed | None],
        process: psutil.Process | None,
        loop_there: bool = False,
    ) -> None:
        self._holder, self._close, self._loop_there = holder, close, loop_there
        self._module, self._payload = session.model, 0
        if isinstance(session, DecodeSession):
            self._begin(session)
        else:
            session.model = _Proxy(self._asked, session.model)  # type: ignore[assignment]
        super().__init__(session, crossed, process)
        self._payload = 0

    def work(self) -> Outcome:
        if not isinstance(self.session, DecodeSession):
            return self.session.step()
        count, held = self.session.new_tokens, self.session.prompt.shape[1]
        if self._loop_there:
            tokens = self._holder.ask("decode", held, self._first, count)
            return Outcome(torch.tensor([tokens]))
        tokens = [self._first]
        for done in range(count):
            tokens.append(self._holder.ask("read", held + done, tokens[-1:]))
            self.session.first_is_known()
        return Outcome(torch.tensor([tokens[1:]]))

    def counts(self) -> Mapping[str, float]:
        """With the bytes of the tensors handed over and back: those that a framework moves through
        shared memory cross no socket."""
        return {**super().counts(), "tensor_bytes": self._payload}

    def close(self) -> None:
        self.session.model = self._module
        self._close()

    def _begin(self, session: DecodeSession) -> None:
        if session.prompt.shape[0] != 1:
            raise BadValue(f"a held model decodes one sequence, not {session.prompt.shape[0]}")
        self._first: int = self._holder.ask("read", 0, session.prompt[0].tolist())

    def _asked(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        output = self._holder.ask("call", args, kwargs)
        self._payload += _tensor_bytes((args, kwargs)) + _tensor_bytes(output)
        return output


class _Proxy:
    """Stands where the session's model was."""

    def __init__(self, asked: Callable[..., Any], module: torch.nn.Module) -> None:
        self._asked, self._module = asked, module

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._asked(args, kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def _tensor_bytes(value: object) -> int:
    if isinstance(value, torch.Tensor):
        return value.nbytes
    if isinstance(value, dict):
        return sum(map(_tensor_bytes, value.values()))
    if isinstance(value, tuple | list):
        return sum(map(_tensor_bytes, value))
    return 0
