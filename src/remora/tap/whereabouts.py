"""What a program calls its objects: the names it reaches them by."""

from __future__ import annotations

import inspect
import sys
from collections import deque
from collections.abc import Iterator
from types import FrameType, ModuleType
from typing import Any

_DEPTH = 3
"""Names longer than ``a.b.c`` tell a reader little."""
_VISITS = 20_000
"""How many values one search looks at, so that a huge program costs a bounded time."""
_PARTS_OF_A_MODULE = ("_modules", "_parameters", "_buffers")
_PLAIN = (int, float, complex, str, bytes, bool, type(None), type, ModuleType)


def name_objects(things: list[Any]) -> dict[int, str]:
    """A name for each of ``things``, by id, no two alike.

    The shortest path from ``__main__`` or from a running function's locals, outermost function
    first; else the class name and an ordinal.
    """
    wanted = {id(thing) for thing in things}
    names: dict[int, str] = {}
    taken: set[str] = set()
    for namespace in _namespaces():
        if len(names) == len(wanted):
            break
        for thing, path in _reachable(namespace):
            if id(thing) in wanted and id(thing) not in names and path not in taken:
                names[id(thing)] = path
                taken.add(path)
    ordinals: dict[str, int] = {}
    for thing in things:
        if id(thing) not in names:
            kind = type(thing).__name__
            ordinal = ordinals.get(kind, 0)
            ordinals[kind] = ordinal + 1
            names[id(thing)] = f"{kind}#{ordinal}"
    return names


def _namespaces() -> Iterator[dict[str, Any]]:
    main = sys.modules.get("__main__")
    if main is not None:
        yield dict(vars(main))
    for frame in list(sys._current_frames().values()):
        for one in _outermost_first(frame):
            if one.f_globals.get("__name__", "").partition(".")[0] != "remora":
                yield locals_of(one)


def _outermost_first(frame: FrameType | None) -> list[FrameType]:
    frames = []
    while frame is not None:
        if frame.f_code.co_flags & inspect.CO_OPTIMIZED:
            frames.append(frame)
        frame = frame.f_back
    return frames[::-1]


def locals_of(frame: FrameType) -> dict[str, Any]:
    """A copy of a running function's locals, leaving nothing behind in the frame.

    Before Python 3.13 reading ``f_locals`` leaves a snapshot in the frame that would keep the
    values alive until the function returns. It is emptied again, unless the program has called
    ``locals()`` itself and holds it.
    """
    snapshot = frame.f_locals
    values = dict(snapshot)
    if sys.version_info < (3, 13) and sys.getrefcount(snapshot) <= 3:  # frame, here, argument
        snapshot.clear()
    return values


def _reachable(namespace: dict[str, Any]) -> Iterator[tuple[Any, str]]:
    """Values reached from ``namespace`` with their paths, nearest first."""
    queue: deque[tuple[Any, str, int]] = deque(
        (value, name, 1) for name, value in namespace.items() if not name.startswith("__")
    )
    seen: set[int] = set()
    visits = 0
    while queue and visits < _VISITS:
        value, path, depth = queue.popleft()
        visits += 1
        if issubclass(type(value), _PLAIN) or id(value) in seen:
            continue
        seen.add(id(value))
        yield value, path
        if depth < _DEPTH:
            queue.extend((child, path + step, depth + 1) for step, child in _parts(value))


def _parts(value: Any) -> list[tuple[str, Any]]:
    cls = type(value)
    if cls in (list, tuple):
        return [(f"[{index}]", part) for index, part in enumerate(value[:64])]
    if cls is dict:
        return [(f"[{key!r}]", part) for key, part in list(value.items())[:64]
                if type(key) in (str, int)]  # fmt: skip
    try:
        attributes = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return []
    if type(attributes) is not dict:
        return []
    return [
        (f".{name}", part)
        for name, part in list(attributes.items())
        if type(name) is str and name not in _PARTS_OF_A_MODULE
    ]
