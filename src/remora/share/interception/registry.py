"""Every hook by name, and the best that can be had here."""

from __future__ import annotations

from collections.abc import Callable

from remora.core.errors import Unavailable, UnknownName
from remora.core.saying import say
from remora.share.interception.contract import Hook

NAMES = ("compiled", "python")
"""From the one that costs least."""
_said: set[str] = set()


def create(name: str, report: Callable[[str], object] = say) -> Hook:
    """A new hook of that name. Torch is imported.

    Raises:
        UnknownName: there is none.
    """
    if name == "compiled":
        from remora.share.interception.compiled import Compiled

        return Compiled(report=report)
    if name == "python":
        from remora.share.interception.dispatched import Dispatched

        return Dispatched(report)
    raise UnknownName("hook", name, NAMES)


def best(report: Callable[[str], object] = say) -> Hook:
    """The compiled hook if it is there or can be built, which takes seconds; else its twin.

    ``report`` hears, once in a process, why it is the twin.
    """
    from remora.share.interception.compiled import Compiled

    hook = Compiled(report=report)
    try:
        hook.load()
    except Unavailable as error:
        if str(error) not in _said:
            _said.add(str(error))
            report(f"remora: {error}, which stands there now")
        return create("python", report)
    return hook
