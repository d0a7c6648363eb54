"""One call of an operator: its arguments by name, and the tensors that it gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

WRITES_UNSAID = {"aten.native_batch_norm.default": ("running_mean", "running_var")}
"""Arguments that are written to though the schema does not say so."""


@dataclass(frozen=True, eq=False)
class Call:
    """An operator bound to arguments and to where its results go."""

    operator: Any
    """An overload, such as ``torch.ops.aten.mm.default``."""
    values: Mapping[str, Any]
    """Every argument by its name in the schema, defaults filled in."""
    outputs: tuple[Any, ...]
    """What it returns: tensors, lists of tensors, None where it gives none. In place, an
    argument."""

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    @property
    def out(self) -> torch.Tensor:
        """Its only output."""
        (output,) = self.outputs
        if not isinstance(output, torch.Tensor):
            raise TypeError(f"{self.operator} gives {type(output).__name__}, not one tensor")
        return output

    def named(self, kind: type | tuple[type, ...]) -> dict[str, Any]:
        """The arguments that are of ``kind``."""
        return {name: value for name, value in self.values.items() if isinstance(value, kind)}


def bound(operator: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments by name, with the schema's defaults."""
    values: dict[str, Any] = {}
    for place, (name, has_default, default) in enumerate(_parameters(operator)):
        if place < len(args):
            values[name] = args[place]
        elif name in kwargs:
            values[name] = kwargs[name]
        elif has_default:
            values[name] = default
    return values


@lru_cache(maxsize=4096)
def _parameters(operator: Any) -> tuple[tuple[str, bool, Any], ...]:
    arguments = operator._schema.arguments
    return tuple((each.name, each.has_default_value(), each.default_value) for each in arguments)


@lru_cache(maxsize=4096)
def written(operator: Any) -> tuple[str, ...]:
    """Names of the arguments that the operator writes to."""
    arguments = operator._schema.arguments
    said = [a.name for a in arguments if a.alias_info is not None and a.alias_info.is_write]
    return (*said, *WRITES_UNSAID.get(str(operator), ()))


@lru_cache(maxsize=4096)
def is_view(operator: Any) -> bool:
    """Whether it gives a view of an argument: there is nothing to compute."""
    aliases = [each.alias_info for each in operator._schema.returns if each.alias_info is not None]
    return any(not alias.is_write for alias in aliases)


@lru_cache(maxsize=4096)
def gives(operator: Any) -> tuple[str | None, ...]:
    """For each value that it returns, the argument that it is; None for one that is made."""
    return tuple(_argument_of(operator, each.alias_info) for each in operator._schema.returns)


def _argument_of(operator: Any, alias: Any) -> str | None:
    if alias is None:
        return None
    for argument in operator._schema.arguments:
        own = argument.alias_info
        if own is not None and own.before_set == alias.before_set:
            return str(argument.name)
    return None


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """Every tensor in an argument or a result."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from tensors_in(each)


def as_outputs(result: Any) -> tuple[Any, ...]:
    """What an operator returned, one entry for each value of its schema."""
    if result is None:
        return ()
    return tuple(result) if isinstance(result, tuple) else (result,)
