"""A job, as the services that ride along with it see it: its steps, its calls, its state.

Every service gets its own view of the job, so each subscription has an owner. When a callback
raises, its owner is taken off the job, one line on stderr says why, and the job goes on; a strict
job hands the exception to the program instead.

A job costs nothing until somebody subscribes: no hook, no wrapper and no import finder is in
place before the first subscription or after the last.
"""

from __future__ import annotations

import threading
import traceback
from typing import TYPE_CHECKING, TextIO

from remora.core.errors import BadValue, JobEnded, UserError
from remora.core.saying import say
from remora.tap.calls import Calls
from remora.tap.forwards import RootForwards
from remora.tap.imports import Imports, ImportWatch
from remora.tap.state import State
from remora.tap.steps import OptimizerSteps, Steps
from remora.tap.subscription import Subscription
from remora.tap.wrap import together

if TYPE_CHECKING:
    from collections.abc import Callable

    from remora.tap.service import Service


class Job:
    """The running program. ``steps``, ``calls``, ``imports`` and ``state`` are its taps.

    Subscriptions made here directly belong to nobody: one that raises is dropped alone. Those a
    service makes on the job it was given belong to the service and go with it.

    Args:
        strict: let a failing callback raise into the program instead of detaching its owner.
        stderr: where the one line about a failing service goes; ``sys.stderr`` as it is then.
    """

    def __init__(self, *, strict: bool = False, stderr: TextIO | None = None) -> None:
        self._crew = Crew(strict, stderr)
        self._taps = _Taps()
        self._view(None)

    def _view(self, owner: Service | None) -> None:
        admit = _Admission(self._crew, owner)
        self.steps = Steps(self._taps.imports, self._taps.steps, self._taps.forwards, admit)
        self.calls = Calls(self._taps.imports, self._taps.steps, admit)
        self.imports = Imports(self._taps.imports, admit)
        self.state = State()

    @property
    def strict(self) -> bool:
        return self._crew.strict

    @property
    def services(self) -> tuple[Service, ...]:
        """The services attached now, in the order in which they came."""
        return tuple(self._crew.aboard)

    def attach(self, service: Service) -> None:
        """Let ``service`` subscribe.

        Raises:
            BadValue: it is attached already.
            UserError: from the service, about something the user can mend; it is then detached.
        """
        if service in self._crew.aboard:
            raise BadValue(f"service {service.name!r} is attached already; detach it first")
        self._crew.aboard[service] = []
        view = object.__new__(Job)
        view._crew, view._taps = self._crew, self._taps
        view._view(service)
        try:
            service.attach(view)
        except UserError:
            self._crew.detach(service)
            raise
        except Exception as error:
            self._crew.fail(service, "while attaching", error)

    def detach(self, service: Service) -> None:
        """Take ``service`` off the job with every subscription it holds; harmless if it is off."""
        self._crew.detach(service)

    def detach_all(self) -> None:
        """Take every service off, the last to come first, and every subscription nobody owns."""
        for service in reversed(self.services):
            self._crew.detach(service)
        self._crew.release_unowned()

    @property
    def exit_code(self) -> int | None:
        """What the program has ended with; None while it runs, and where nobody told."""
        return self._crew.exit_code

    def finish(self, exit_code: int | None = None) -> None:
        """The program has ended: let each service say what it has to say, then detach it."""
        self._crew.exit_code = exit_code
        try:
            for service in self.services:
                try:
                    service.finish()
                except Exception as error:
                    self._crew.fail(service, "while finishing", error)
        finally:
            self.detach_all()

    def abandon(self) -> None:
        """In a forked child: unhook everything and tell no service; they ride with the parent."""
        self._crew.abandon()


class _Taps:
    """What all views of one job share."""

    def __init__(self) -> None:
        self.imports = ImportWatch()
        self.steps = OptimizerSteps()
        self.forwards = RootForwards()


class Crew:
    """Who is attached, what each has subscribed to, and what happens when one fails."""

    def __init__(self, strict: bool, stderr: TextIO | None) -> None:
        self.strict = strict
        self.exit_code: int | None = None
        self.aboard: dict[Service, list[Subscription]] = {}
        self._unowned: list[Subscription] = []
        self._stderr = stderr
        self._lock = threading.RLock()

    def add(self, owner: Service | None, subscription: Subscription) -> None:
        with self._lock:
            held = self._unowned if owner is None else self.aboard.get(owner)
            if held is not None:
                held[:] = [one for one in held if one.live]
                held.append(subscription)
                return
        subscription.remove()

    def fail(self, owner: Service | None, where: str, error: Exception) -> None:
        """``owner`` raised: take it off and say why, once.

        Raise instead if the job is strict, or if it is what the user wants the program to end by.
        """
        if owner is not None:
            with self._lock:
                if owner not in self.aboard:
                    return
            self.detach(owner)
        if self.strict or isinstance(error, JobEnded):
            raise error
        who = f"service {owner.name!r}" if owner is not None else "a subscription"
        self._say(f"{who} failed {where} and was detached: {_in_a_line(error)}")

    def detach(self, service: Service) -> None:
        with self._lock:
            held = self.aboard.pop(service, None)
        if held is None:
            return
        try:
            service.detach()
        except Exception as error:
            self._say(f"service {service.name!r} failed while detaching: {_in_a_line(error)}")
        finally:
            _remove(held)

    def release_unowned(self) -> None:
        with self._lock:
            held, self._unowned = self._unowned, []
        _remove(held)

    def abandon(self) -> None:
        self._lock = threading.RLock()  # another thread of the parent may have held it
        everything = [*self.aboard.values(), self._unowned]
        self.aboard, self._unowned = {}, []
        for held in everything:
            _remove(held)

    def _say(self, line: str) -> None:
        say(f"remora: {line}", self._stderr)


class _Admission:
    """How a tap registers a new subscription: under its owner, with the owner's way to fail."""

    def __init__(self, crew: Crew, owner: Service | None) -> None:
        self._crew, self._owner = crew, owner

    def __call__(self, where: str, remove: Callable[[Subscription], None]) -> Subscription:
        subscription = Subscription(remove, lambda error: self._failed(subscription, where, error))
        self._crew.add(self._owner, subscription)
        return subscription

    def _failed(self, subscription: Subscription, where: str, error: Exception) -> None:
        if not subscription.live:
            return
        if self._owner is None:
            subscription.remove()
        self._crew.fail(self._owner, where, error)


def _remove(subscriptions: list[Subscription]) -> None:
    with together():
        for subscription in reversed(subscriptions):
            subscription.remove()


def _in_a_line(error: Exception) -> str:
    if isinstance(error, UserError):
        return " ".join(str(error).split())  # it says what is wrong; the place in here does not
    text = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
    frames = traceback.extract_tb(error.__traceback__)
    return f"{text} ({frames[-1].filename}:{frames[-1].lineno})" if frames else text
