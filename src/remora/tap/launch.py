"""Run an unmodified program in this process, as if Python had been given it, with services aboard.

What the program cannot tell from plain Python: ``sys.argv``, ``sys.path[0]``, ``__main__`` and all
its attributes, exit codes, tracebacks, ``sys.excepthook``, signals, ``atexit``, threads, and
children started by multiprocessing or ``os.fork`` (services ride with the parent only).

What it can tell, if it looks: Remora's frames below its own (``traceback.print_stack``, a warning
with a ``stacklevel`` beyond the module, a recursion limit reached a few frames sooner),
``sys.orig_argv``, and modules that are imported already.
"""

from __future__ import annotations

import atexit
import builtins
import contextlib
import os
import signal
import sys
import traceback
import weakref
from collections.abc import Callable, Sequence
from types import ModuleType, TracebackType

from remora.core.errors import JobEnded, ScriptUnusable
from remora.tap import wrapper
from remora.tap.job import Job
from remora.tap.program import Container, Program, program
from remora.tap.service import Service

ExceptHook = Callable[[type[BaseException], BaseException, TracebackType | None], object]

_our_main = sys.modules.get("__main__")
"""Kept alive: replacing it in ``sys.modules`` must not tear down the module that started us."""
_riding: weakref.WeakSet[Job] = weakref.WeakSet()


def run_script(
    argv: Sequence[str],
    services: Sequence[Service] = (),
    *,
    module: bool = False,
    strict: bool = False,
    excepthook: ExceptHook = sys.__excepthook__,
) -> int:
    """Run the program ``argv[0]`` with the rest as its arguments, and return its exit code.

    The process is the program's from here on: nothing is put back, and the caller should do no
    more than exit with the code. An uncaught KeyboardInterrupt ends the process by SIGINT at exit.

    Args:
        argv: a script, folder, archive or ``-`` (a module with ``module``), and its arguments.
        services: attached before the program starts; finished and detached when its main code
            has ended, before its other threads and exit handlers have.
        module: run ``argv[0]`` as ``python -m`` does.
        excepthook: what the program finds as ``sys.excepthook``.
        strict: let a failing service's exception raise into the program.

    Raises:
        ScriptUnusable: there is nothing to run.
        UserError: from a service that cannot do what it was asked to.
        JobEnded: from one that could not let the program go on.
    """
    if not argv:
        raise ScriptUnusable("no script given; write: remora run [options] script.py [arguments]")
    chosen = program(argv[0], module=module)
    _settle_before(chosen, argv, excepthook)
    job = Job(strict=strict)
    _stay_with_parent(job)
    main = _fresh_main()
    _attach(job, services)
    code = None
    try:
        code = _run(chosen, main)
        return code
    finally:
        job.finish(code)


def _attach(job: Job, services: Sequence[Service]) -> None:
    try:
        for service in services:
            job.attach(service)
    except BaseException:
        job.detach_all()  # nothing has run: nobody has anything to say
        raise


def _settle_before(chosen: Program, argv: Sequence[str], excepthook: ExceptHook) -> None:
    atexit.register(_die_of_interrupt)  # first in, so last out: after the program's own
    sys.excepthook = excepthook
    sys.argv[:] = [chosen.argv0, *argv[1:]]
    _put_first_on_path(chosen)


def _put_first_on_path(chosen: Program) -> None:
    """In place of what Python put there for us; ``-P`` puts nothing there for scripts."""
    ours = 0 if sys.flags.safe_path else 1
    if isinstance(chosen, Container) or not sys.flags.safe_path:
        sys.path[:ours] = [chosen.path0]


def _fresh_main() -> ModuleType:
    main = ModuleType("__main__")
    main.__dict__.update(__annotations__={}, __builtins__=builtins)
    sys.modules["__main__"] = main
    return main


def _run(chosen: Program, main: ModuleType) -> int:
    try:
        chosen.run(main)
    except SystemExit as error:
        return _exit_code(error)
    except JobEnded as error:
        sys.last_type, sys.last_value, sys.last_traceback = type(error), error, error.__traceback__
        _flush(sys.stdout)
        raise
    except BaseException as error:
        return _report(error)
    return 0


# ---------------------------------------------------------------- how a program ends


def _exit_code(error: SystemExit) -> int:
    """What Python exits with; a code that is no number is printed, and stands for 1."""
    code = error.code
    if code is None:
        return 0
    if isinstance(code, int):
        return code
    _flush(sys.stdout)
    print(code, file=sys.stderr)
    return 1


def _report(error: BaseException) -> int:
    """Show an uncaught exception as Python would: through the program's hook, our frames cut."""
    shown = _without_our_frames(error.__traceback__)
    error.__traceback__ = shown
    _show_causes_likewise(error)
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, shown
    if sys.version_info >= (3, 12):
        sys.last_exc = error
    _flush(sys.stdout)
    hook = getattr(sys, "excepthook", None)
    if hook is None:
        print("sys.excepthook is missing", file=sys.stderr)
        _print(error)
        return _code_of(error)
    sys.audit("sys.excepthook", hook, type(error), error, shown)
    try:
        hook(type(error), error, shown)
    except SystemExit as leaving:
        return _exit_code(leaving)
    except BaseException as second:
        second.__traceback__ = _without_our_frames(second.__traceback__)
        second.__context__ = None if second.__context__ is error else second.__context__
        print("Error in sys.excepthook:", file=sys.stderr)
        _print(second)
        print("\nOriginal exception was:", file=sys.stderr)
        _print(error)
    _flush(sys.stderr)
    return _code_of(error)


def _print(error: BaseException) -> None:
    traceback.print_exception(error)


def _without_our_frames(found: TracebackType | None) -> TracebackType | None:
    """``found`` less what is ours: where the program was begun, and wrappers on the way."""
    ours = (__file__, sys.modules[Program.__module__].__file__, wrapper.__file__)
    kept = []
    while found is not None:
        kept.append(found)
        found = found.tb_next
    shown: TracebackType | None = None
    for one in reversed(kept):
        if one.tb_frame.f_code.co_filename not in ours:
            shown = TracebackType(shown, one.tb_frame, one.tb_lasti, one.tb_lineno)
    return shown


def _show_causes_likewise(error: BaseException) -> None:
    met = {id(error)}
    cause = error.__cause__ or error.__context__
    while cause is not None and id(cause) not in met:
        met.add(id(cause))
        cause.__traceback__ = _without_our_frames(cause.__traceback__)
        cause = cause.__cause__ or cause.__context__


_interrupted_in: int | None = None
"""The process whose program ended by an uncaught KeyboardInterrupt."""


def _code_of(error: BaseException) -> int:
    global _interrupted_in
    if type(error) is KeyboardInterrupt:
        _interrupted_in = os.getpid()
        return 128 + signal.SIGINT
    return 1


def _die_of_interrupt() -> None:
    """Let whoever waits for this process see that SIGINT ended it, as Python does."""
    if _interrupted_in == os.getpid():
        _flush(sys.stdout)
        _flush(sys.stderr)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)


def _flush(stream: object) -> None:
    with contextlib.suppress(Exception):
        stream.flush()  # type: ignore[attr-defined]


# ---------------------------------------------------------------- children


def _stay_with_parent(job: Job) -> None:
    if not _riding:
        os.register_at_fork(after_in_child=_abandon_all)
    _riding.add(job)


def _abandon_all() -> None:
    for job in list(_riding):
        job.abandon()
    _riding.clear()
