"""What stands in a watched function's place, and calls its watchers around it.

It passes for the function where a program may tell the two apart: it is of the same kind
(:mod:`remora.tap.shapes`), torch hands it to those who take calls over
(:mod:`remora.tap.dispatch`), and graph compilers and tracers see the function alone. Modes of torch
do not see what watchers do (:mod:`remora.tap.undisturbed`).
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from threading import get_ident
from types import FunctionType
from typing import TYPE_CHECKING, Any

from remora.tap.dispatch import HandsOver, dispatched
from remora.tap.shapes import shaped
from remora.tap.subscription import in_callback
from remora.tap.undisturbed import modes_are_on, undisturbed

if TYPE_CHECKING:
    from remora.tap.wrap import Site


_Question = Callable[..., Any]


def wrapper_of(site: Site) -> Any:  # noqa: C901
    """The wrapper. Written out rather than composed: every call in it is paid by the program."""
    original, busy, ident_of = site.original, in_callback, get_ident
    mark, unmark, apart = busy.add, busy.discard, undisturbed
    compiling, exporting, taken_over, dispatching = _questions()
    through = dispatched(original, site.place.owner)
    call, call_watched = through or original, _call_watched
    bare = through if isinstance(through, HandsOver) else original
    inside = through.inside if through is not None else set[int]()
    marks = through is not None and bare is original  # here, since a call of it would cost more
    would_hand = through.would_hand if isinstance(through, HandsOver) else None

    def watched(*args: Any, **kwargs: Any) -> Any:  # noqa: C901
        if compiling() or exporting("_is_compiling_flag"):
            return original(*args, **kwargs)
        if (ident := ident_of()) in busy or (ident in inside and through.is_coming_back()):  # type: ignore[union-attr]
            return bare(*args, **kwargs)
        if (only := site.only) is None:
            return call_watched(site.watchers, call, args, kwargs)
        token = None
        if (before := only.before) is not None:
            mark(ident)
            try:
                disturbed = taken_over() or dispatching("_is_in_torch_dispatch_mode")
                token = apart(before, args, kwargs) if disturbed else before(args, kwargs)
            except Exception as error:
                only.subscription.fail(error)
            finally:
                unmark(ident)
        first = marks and ident not in inside
        try:
            if first:
                inside.add(ident)
                try:
                    result = original(*args, **kwargs) if kwargs else original(*args)
                finally:
                    inside.discard(ident)
            elif would_hand is not None and not would_hand((*args, *kwargs.values())):
                result = original(*args, **kwargs) if kwargs else original(*args)
            else:
                result = call(*args, **kwargs) if kwargs else call(*args)  # torch takes none faster
        except BaseException as error:
            only.fell(token, error)
            raise
        if (after := only.after) is not None and only.subscription.live:
            mark(ident)
            try:
                disturbed = taken_over() or dispatching("_is_in_torch_dispatch_mode")
                apart(after, token, result) if disturbed else after(token, result)
            except Exception as error:
                only.subscription.fail(error)
            finally:
                unmark(ident)
        return result

    wrapper = functools.wraps(original)(shaped(original, _at_home(watched, original)))
    if through is not None:
        through.wrapped = watched.__code__
    if isinstance(through, HandsOver):
        through.wrapper = wrapper
    return wrapper


def _at_home(wrapper: Any, original: Any) -> Any:
    """``wrapper``, which uses no globals, with those of ``original``.

    ``torch.jit.script`` looks the names in a function's source up there. It meets wrappers that
    objects hold: those that names find are put back for it.
    """
    if not isinstance(original, FunctionType):
        return wrapper
    return FunctionType(
        wrapper.__code__, original.__globals__, wrapper.__name__, None, wrapper.__closure__
    )


def _call_watched(
    watchers: tuple[Any, ...], original: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    tokens = [watcher.enter(args, kwargs) for watcher in watchers]
    try:
        result = original(*args, **kwargs)
    except BaseException as error:
        for watcher, token in zip(reversed(watchers), reversed(tokens), strict=True):
            watcher.fell(token, error)
        raise
    for watcher, token in zip(reversed(watchers), reversed(tokens), strict=True):
        watcher.leave(token, result)
    return result


def _questions() -> tuple[_Question, _Question, _Question, _Question]:
    """What is asked at every call, each as cheaply as it can be.

    Whether a graph compiler is at work: one that traces the wrapper takes the first for True, and
    never comes to the rest. Whether a mode is on that would see what watchers do.
    """
    torch = sys.modules.get("torch")
    compiler = sys.modules.get("torch.compiler")
    if torch is None or compiler is None:
        return _no, _no, modes_are_on, _no
    return (
        compiler.is_dynamo_compiling,
        vars(compiler).get,
        torch._C._is_torch_function_mode_enabled,
        vars(sys.modules["torch.utils._python_dispatch"]).get,
    )


def _no(*_: object) -> bool:
    return False
