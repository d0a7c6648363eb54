"""The other kinds of parts: anything with a ``state_dict``, plain values, and several together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from remora.checkpoint.state.part import Part, refused
from remora.checkpoint.state.position import DataPosition


class StatefulPart(Part):
    """Anything with ``state_dict`` and ``load_state_dict``: a scheduler, a scaler, one's own."""

    def __init__(self, at: str, stateful: Any) -> None:
        super().__init__(at)
        self.stateful = stateful

    def capture(self) -> Any:
        return self.stateful.state_dict()

    def load(self, state: Any, *, strict: bool) -> list[str]:
        try:
            self.stateful.load_state_dict(state)
        except (
            RuntimeError, LookupError, TypeError, ValueError, AttributeError, AssertionError,
        ) as error:  # fmt: skip
            return refused(self.at, error, strict=strict)
        return []


class LoaderPart(Part):
    """A plain DataLoader, by its position."""

    def __init__(self, at: str, position: DataPosition) -> None:
        super().__init__(at)
        self.position = position
        self._closed = False

    def capture(self) -> Any:
        return self.position.state_dict()

    def misfits(self, state: Any) -> list[str]:
        if not isinstance(state, dict) or not {"epoch", "batch", "own", "start"} <= state.keys():
            return [f"{self.at} has no position of a loader in the checkpoint"]
        return [f"{self.at}: {line}" for line in self.position.misfits(state)]

    def load(self, state: Any, *, strict: bool) -> list[str]:
        if lines := self.misfits(state):
            return [*lines, f"{self.at} begins at its first batch"]
        self.position.load_state_dict(state)
        return []

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self.position.close()


class ValuesPart(Part):
    """A dict or list of plain values and tensors, whose contents are replaced."""

    def __init__(self, at: str, holder: dict[Any, Any] | list[Any]) -> None:
        super().__init__(at)
        self.holder = holder

    def capture(self) -> Any:
        return self.holder

    def misfits(self, state: Any) -> list[str]:
        kind = dict if isinstance(self.holder, dict) else list
        if isinstance(state, kind):
            return []
        there = type(state).__name__
        return [f"{self.at} is a {there} in the checkpoint and a {kind.__name__} here"]

    def load(self, state: Any, *, strict: bool) -> list[str]:
        if lines := self.misfits(state):
            return lines
        if isinstance(self.holder, dict):
            self.holder.clear()
            self.holder.update(state)
        else:
            self.holder[:] = state
        return []


class ItemPart(Part):
    """A plain value among the parts of a dict or list, which is set there."""

    def __init__(self, at: str, holder: Any, key: Any) -> None:
        super().__init__(at)
        self.holder, self.key = holder, key

    def capture(self) -> Any:
        return self.holder[self.key]

    def load(self, state: Any, *, strict: bool) -> list[str]:
        self.holder[self.key] = state
        return []


class GroupPart(Part):
    """Several parts by name or, in a list, by index."""

    def __init__(self, at: str, parts: Mapping[Any, Part], *, listed: bool) -> None:
        super().__init__(at)
        self.parts, self._listed = parts, listed

    def capture(self) -> Any:
        states = {key: part.capture() for key, part in self.parts.items()}
        return list(states.values()) if self._listed else states

    def _states(self, state: Any) -> dict[Any, Any]:
        if self._listed and isinstance(state, list):
            return dict(enumerate(state))
        return state if isinstance(state, dict) else {}

    def misfits(self, state: Any) -> list[str]:
        states = self._states(state)
        lines = []
        for key, part in self.parts.items():
            lines += part.misfits(states[key]) if key in states else [_absent(part.at)]
        lines += [
            f"{self.at}.{key} is only in the checkpoint" for key in states if key not in self.parts
        ]
        return lines

    def targets(self, state: Any) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        states = self._states(state)
        for key, part in self.parts.items():
            if key in states:
                yield from part.targets(states[key])

    def load(self, state: Any, *, strict: bool) -> list[str]:
        states = self._states(state)
        lines = []
        for key, part in self.parts.items():
            lines += part.load(states[key], strict=strict) if key in states else [_absent(part.at)]
        return lines

    def close(self) -> None:
        for part in self.parts.values():
            part.close()


def _absent(at: str) -> str:
    return f"{at} is not in the checkpoint"
