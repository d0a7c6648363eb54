"""A wrapper of the same kind as its function, where callers ask for the kind.

``inspect.iscoroutinefunction`` and its like look at the function's own code, and frameworks choose
by their answer how to call it. So around a coroutine function stands a coroutine function, around a
generator function a generator function; each passes on whatever is sent and thrown into it. What it
wraps is then called when it begins to run, not when it is called.

Around a function of a module that is built in stands what, like it, binds to no instance where a
class holds it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Generator
from types import BuiltinFunctionType
from typing import Any


class BuiltIn(functools.partial[Any]):
    """Binds to no instance. Pickled by its name, as what it stands for is."""

    __qualname__: str

    def __reduce__(self) -> str:
        return self.__qualname__

    def __repr__(self) -> str:
        return f"<built-in function {self.__qualname__}>"


def shaped(like: Any, call: Callable[..., Any]) -> Callable[..., Any]:
    """``call``, which returns what ``like`` does, as a function of the same kind as ``like``."""
    if inspect.iscoroutinefunction(like):
        return _coroutine(call)
    if inspect.isgeneratorfunction(like):
        return _generator(call)
    if inspect.isasyncgenfunction(like):
        return _async_generator(call)
    return BuiltIn(call) if isinstance(like, BuiltinFunctionType) else call


def _coroutine(call: Callable[..., Any]) -> Callable[..., Any]:
    async def watched(*args: Any, **kwargs: Any) -> Any:
        return await call(*args, **kwargs)

    return watched


def _generator(call: Callable[..., Any]) -> Callable[..., Any]:
    def watched(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        return (yield from call(*args, **kwargs))

    return watched


def _async_generator(call: Callable[..., Any]) -> Callable[..., Any]:
    async def watched(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        inner = call(*args, **kwargs)
        try:
            item = await anext(inner)
            while True:
                try:
                    sent = yield item
                except GeneratorExit:
                    await inner.aclose()
                    raise
                except BaseException as error:
                    item = await inner.athrow(error)
                else:
                    item = await inner.asend(sent)
        except StopAsyncIteration:
            return

    return watched
