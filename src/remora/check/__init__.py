"""The check service: learn what a healthy training run does, and watch every step for less."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from remora.check.watching import watch

__all__ = ["watch"]


def __getattr__(name: str) -> object:
    if name != "watch":
        raise AttributeError(f"module 'remora.check' has no attribute {name!r}")
    from remora.check.watching import watch

    globals()["watch"] = watch
    return watch
