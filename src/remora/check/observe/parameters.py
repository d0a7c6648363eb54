"""What a function's signature tells of its parameters, where it has one."""

from __future__ import annotations

import inspect
from typing import Any

from remora.check.values import is_torch_constant

_PLAIN = (bool, int, float, str, type(None))
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def parameters_of(function: Any) -> tuple[list[str], dict[str, Any]]:
    """Names of the positional parameters in order, and the defaults that are plain values."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return [], {}
    parameters = signature.parameters.values()
    return (
        [one.name for one in parameters if one.kind in _POSITIONAL],
        {one.name: one.default for one in parameters if _is_plain(type(one.default))},
    )


def _is_plain(kind: type) -> bool:
    return kind in _PLAIN or is_torch_constant(kind)
