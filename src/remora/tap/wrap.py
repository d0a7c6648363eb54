"""Wrap a function in place, and put it back exactly.

A site is one function wrapped in one module (with every alias) or one class. Sites belong to the
process, not to a job, so that two jobs watching one function share its wrapper and may leave in
either order.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from threading import get_ident
from types import BuiltinFunctionType, MethodType, ModuleType
from typing import Any

from remora.core.errors import BadValue
from remora.tap.defaults import swap_in_defaults
from remora.tap.names import Place
from remora.tap.scripting import guards
from remora.tap.subscription import Subscription, in_callback
from remora.tap.undisturbed import modes_are_on, undisturbed
from remora.tap.wrapper import wrapper_of

Before = Callable[[tuple[Any, ...], dict[str, Any]], Any]
After = Callable[[Any, Any], object]
Failed = Callable[[Any, BaseException], object]

_ABSENT = object()


class Watcher:
    """The callbacks of one subscription."""

    __slots__ = ("_asleep", "after", "before", "failed", "subscription")

    def __init__(
        self,
        before: Before | None,
        after: After | None,
        failed: Failed | None,
        subscription: Subscription,
    ) -> None:
        self.before, self.after, self.failed = before, after, failed
        self.subscription = subscription
        self._asleep: tuple[Before | None, After | None, Failed | None] | None = None

    def sleep(self) -> None:
        """Be told of nothing until :meth:`wake`: calls pass straight through."""
        if self._asleep is None:
            self._asleep = self.before, self.after, self.failed
            self.before = self.after = self.failed = None

    def wake(self) -> None:
        """A call that is under way ends with an ``after`` or ``failed`` whose token is None."""
        if self._asleep is not None:
            self.before, self.after, self.failed = self._asleep
            self._asleep = None

    def admit(self, where: str, remove: Callable[[Subscription], None]) -> Subscription:
        """A subscription to another tap on this one's behalf: its failures are this one's."""
        return Subscription(remove, self.subscription.fail)

    def enter(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self.before is None or not self.subscription.live:
            return None
        with _Inside():
            try:
                if modes_are_on():
                    return undisturbed(self.before, args, kwargs)
                return self.before(args, kwargs)
            except Exception as error:
                self.subscription.fail(error)
        return None

    def leave(self, token: Any, result: Any) -> None:
        if self.after is not None:
            self._tell(self.after, token, result)

    def fell(self, token: Any, error: BaseException) -> None:
        if self.failed is not None:
            self._tell(self.failed, token, error)

    def _tell(self, callback: Callable[[Any, Any], object], token: Any, what: Any) -> None:
        if not self.subscription.live:
            return
        with _Inside():
            try:
                if modes_are_on():
                    undisturbed(callback, token, what)
                else:
                    callback(token, what)
            except Exception as error:
                self.subscription.fail(error)


class _Inside:
    """This thread is in a callback, perhaps within another tap's."""

    def __enter__(self) -> None:
        self._ident = get_ident()
        self._outermost = self._ident not in in_callback
        in_callback.add(self._ident)

    def __exit__(self, *_: object) -> None:
        if self._outermost:
            in_callback.discard(self._ident)


@dataclass(eq=False, slots=True)
class Site:
    """One wrapped function and where its wrapper stands."""

    place: Place
    original: Any
    """The function the wrapper calls, unbound."""
    watchers: tuple[Watcher, ...] = ()
    only: Watcher | None = None
    """The watcher, if there is exactly one."""
    wrapper: Any = None
    before_us: Any = _ABSENT
    """What the class's own dictionary held; absent where the method was inherited."""

    def set_watchers(self, watchers: tuple[Watcher, ...]) -> None:
        self.watchers = watchers
        self.only = watchers[0] if len(watchers) == 1 else None


_sites: dict[tuple[int, str], Site] = {}
_lock = threading.RLock()
_postponed: dict[int, tuple[Any, Any]] | None = None
"""By the id of what is there: it and what is to come, while swaps are collected."""
_is_put_back = False
_guarded: list[tuple[Any, Any]] = []
"""The compilers of ``torch.jit``, each with what stands in its place."""


def watch(place: Place, watcher: Watcher) -> Site:
    """Add ``watcher`` to the site at ``place``, wrapping the function if it is the first.

    Raises:
        BadValue: the owner does not let its attributes be set.
    """
    with _lock:
        site = _find_site(place)
        if site is None:
            site = Site(place, _function_of(place))
            site.wrapper = wrapper_of(site)
            site.set_watchers((watcher,))
            _install(site)
            _sites[_key(place)] = site
            _guard_scripting()
        else:
            site.set_watchers((*site.watchers, watcher))
        return site


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Within it, functions of modules are wrapped, or put back, in one pass at its end.

    One pass looks through every imported module, some hundred thousand names; without this each
    function costs one.
    """
    global _postponed
    with _lock:
        if _postponed is not None:
            yield
            return
        _postponed = {}
        try:
            yield
        finally:
            swaps, _postponed = _postponed, None
            _swap_in_modules(swaps)


def unwatch(site: Site, watcher: Watcher) -> None:
    """Take ``watcher`` off ``site``; the last one out puts the function back."""
    with _lock:
        site.set_watchers(tuple(one for one in site.watchers if one is not watcher))
        if not site.watchers and _sites.get(_key(site.place)) is site:
            del _sites[_key(site.place)]
            _restore(site)
            _guard_scripting()


def _key(place: Place) -> tuple[int, str]:
    return id(place.owner), place.attribute


def _find_site(place: Place) -> Site | None:
    if (site := _sites.get(_key(place))) is not None and site.wrapper is _function_of(place):
        return site
    if isinstance(place.owner, type):
        return None
    return next(
        (site for site in _sites.values() if any(place.raw is one for one in _standing_for(site))),
        None,
    )


def _standing_for(site: Site) -> tuple[Any, ...]:
    """What a module may hold of this site: while swaps are postponed also the function itself."""
    return (site.wrapper,) if _postponed is None else (site.wrapper, site.original)


def _function_of(place: Place) -> Any:
    raw = place.raw
    return raw.__func__ if isinstance(raw, staticmethod | classmethod) else raw


def _install(site: Site) -> None:
    owner, attribute = site.place.owner, site.place.attribute
    if not isinstance(owner, type):
        replace_in_modules(site.original, site.wrapper)
        return
    site.before_us = vars(owner).get(attribute, _ABSENT)
    try:
        setattr(owner, attribute, _binding_like(site.place.raw)(site.wrapper))
    except TypeError as error:
        raise BadValue(f"{site.place.name!r} cannot be watched: {error}") from None


def _binding_like(raw: Any) -> Callable[[Any], Any]:
    """What makes a function in a class bind, or not bind, to instances as ``raw`` does."""
    if isinstance(raw, staticmethod | classmethod):
        return type(raw)
    if isinstance(raw, BuiltinFunctionType | MethodType):
        return staticmethod
    return lambda function: function


def _restore(site: Site) -> bool:
    """Put the function back, unless the program has put something of its own there."""
    owner, attribute = site.place.owner, site.place.attribute
    if not isinstance(owner, type):
        replace_in_modules(site.wrapper, site.original)
        return True
    now = vars(owner).get(attribute)
    if (now.__func__ if isinstance(now, staticmethod | classmethod) else now) is not site.wrapper:
        return False
    if site.before_us is _ABSENT:
        delattr(owner, attribute)
    else:
        setattr(owner, attribute, site.before_us)
    return True


@contextlib.contextmanager
def put_back() -> Iterator[None]:
    """Within it nothing is wrapped."""
    global _is_put_back
    with _lock:
        if _is_put_back:
            yield
            return
        _is_put_back = True
        with together():
            restored = [site for site in _sites.values() if _restore(site)]
        try:
            yield
        finally:
            with together():
                for site in restored:
                    _install(site)
            _is_put_back = False


@contextlib.contextmanager
def _nothing_of_ours() -> Iterator[None]:
    from remora.tap.forwards import without_hooks  # which wraps functions itself

    with put_back(), without_hooks():
        yield


def _guard_scripting() -> None:
    """Guard ``torch.jit``'s compilers as long as anything is watched."""
    if _sites and not _guarded:
        _guarded.extend(guards(_nothing_of_ours))
        for function, guard in _guarded:
            replace_in_modules(function, guard)
    elif not _sites:
        while _guarded:
            function, guard = _guarded.pop()
            replace_in_modules(guard, function)


def replace_in_modules(old: Any, new: Any) -> None:
    """Put ``new`` wherever an imported module's namespace holds ``old``; Remora's own excepted."""
    if _postponed is None:
        _swap_in_modules({id(old): (old, new)})
        return
    for key, (there, coming) in list(_postponed.items()):
        if coming is old:  # not there yet: go straight to what replaces it
            _postponed[key] = there, new
            return
    _postponed[id(old)] = old, new


def _swap_in_modules(swaps: dict[int, tuple[Any, Any]]) -> None:
    swap_in_defaults(swaps)
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "remora" or not issubclass(type(module), ModuleType):
            continue
        namespace = ModuleType.__getattribute__(module, "__dict__")
        found = [
            (key, swaps[id(value)]) for key, value in list(namespace.items()) if id(value) in swaps
        ]
        for key, (old, new) in found:
            if namespace[key] is old:
                namespace[key] = new
