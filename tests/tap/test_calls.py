"""Watched calls: seen once each, told apart, and put back exactly."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import inspect
import io
import pickle
import sys
import textwrap
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.overrides import TorchFunctionMode

from remora.core.errors import BadValue, UnknownName
from remora.tap.job import Job

SOURCE = """
    import math

    def double(x, *, plus=0):
        "Twice."
        return 2 * x + plus

    def fails(x):
        raise KeyError(x)

    def factorial(n):
        return 1 if n < 2 else n * factorial(n - 1)

    def counts(n):
        yield from range(n)

    async def awaits(x):
        return x + 1

    CLOSED = []

    async def streams(x):
        try:
            sent = yield x
            if sent is not None:
                try:
                    yield sent
                except KeyError:
                    yield "thrown"
        finally:
            if x:
                CLOSED.append("closed")

    class Base:
        def method(self, x):
            return x + 1

        @staticmethod
        def static(x):
            return x + 2

        @classmethod
        def of_class(cls, x):
            return cls.__name__, x

        @property
        def prop(self):
            return 5

    class Child(Base):
        pass

    class Grandchild(Child):
        def method(self, x):
            return super().method(x) * 10

    class Borrower:
        root = math.sqrt
        add = Base().method

    CONSTANT = 5
"""


@pytest.fixture
def ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A module of the program's own, freshly imported."""
    (tmp_path / "watched_module.py").write_text(textwrap.dedent(SOURCE))
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    yield importlib.import_module("watched_module")
    sys.modules.pop("watched_module", None)


class Log:
    def __init__(self) -> None:
        self.lines: list[tuple[Any, ...]] = []

    def before(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self.lines.append(("before", *args, *kwargs.items()))
        return args

    def after(self, token: Any, result: Any) -> None:
        self.lines.append(("after", *token, result))

    def failed(self, token: Any, error: BaseException) -> None:
        self.lines.append(("failed", *token, repr(error)))

    def watch(self, job: Job, name: str) -> Any:
        return job.calls.watch(name, before=self.before, after=self.after, failed=self.failed)


@pytest.fixture
def log() -> Log:
    return Log()


def test_a_function_is_seen_and_put_back(job: Job, ours: Any, log: Log) -> None:
    bare = ours.double
    subscription = log.watch(job, "watched_module.double")
    assert ours.double(3, plus=1) == 7
    assert log.lines == [("before", 3, ("plus", 1)), ("after", 3, 7)]

    subscription.remove()
    subscription.remove()

    assert ours.double is bare
    assert ours.double(3) == 6
    assert len(log.lines) == 2


def test_a_watched_function_looks_like_itself(job: Job, ours: Any, log: Log) -> None:
    signature = inspect.signature(ours.double)
    log.watch(job, "watched_module.double")

    assert inspect.signature(ours.double) == signature
    assert (ours.double.__name__, ours.double.__doc__) == ("double", "Twice.")
    assert pickle.loads(pickle.dumps(ours.double)) is ours.double


def test_what_raises_is_told_and_still_raises(job: Job, ours: Any, log: Log) -> None:
    log.watch(job, "watched_module.fails")
    with pytest.raises(KeyError, match="7"):
        ours.fails(7)

    assert log.lines == [("before", 7), ("failed", 7, "KeyError(7)")]


def test_recursion_nests(job: Job, ours: Any, log: Log) -> None:
    log.watch(job, "watched_module.factorial")
    assert ours.factorial(3) == 6
    assert [line[:2] for line in log.lines] == [
        ("before", 3), ("before", 2), ("before", 1), ("after", 1), ("after", 2), ("after", 3),
    ]  # fmt: skip


def test_threads_get_their_own_tokens(job: Job, ours: Any) -> None:
    pairs: list[tuple[int, int]] = []
    job.calls.watch(
        "watched_module.double",
        before=lambda args, kwargs: args[0],
        after=lambda token, result: pairs.append((token, result)),
    )

    def run(start: int) -> None:
        for n in range(start, start + 200):
            ours.double(n)

    threads = [threading.Thread(target=run, args=(1000 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(pairs) == 800
    assert all(result == 2 * token for token, result in pairs)


def test_a_callbacks_own_calls_are_not_watched(job: Job, ours: Any) -> None:
    seen: list[int] = []

    def before(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen.append(ours.double(args[0]))

    job.calls.watch("watched_module.double", before=before)
    ours.double(1)
    ours.double(2)

    assert seen == [2, 4]


def test_watchers_share_one_wrapper_and_nest(job: Job, ours: Any) -> None:
    order: list[str] = []
    bare = ours.double
    first = job.calls.watch(
        "watched_module.double",
        before=lambda a, k: order.append("1 in"), after=lambda t, r: order.append("1 out"),
    )  # fmt: skip
    wrapper = ours.double
    second = job.calls.watch(
        "watched_module.double",
        before=lambda a, k: order.append("2 in"), after=lambda t, r: order.append("2 out"),
    )  # fmt: skip
    assert ours.double is wrapper
    ours.double(1)
    assert order == ["1 in", "2 in", "2 out", "1 out"]
    first.remove()
    assert ours.double is wrapper
    second.remove()
    assert ours.double is bare


def _note(seen: list[int], number: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    seen.append(number)


@given(order=st.permutations(range(4)))
@settings(max_examples=24, deadline=None)
def test_jobs_may_leave_in_any_order(order: list[int]) -> None:
    bare = nn.functional.dropout
    jobs = [Job() for _ in range(4)]
    seen: list[int] = []
    for number, one in enumerate(jobs):
        one.calls.watch("torch.nn.functional.dropout", before=partial(_note, seen, number))
    for gone, number in enumerate(order):
        seen.clear()
        nn.functional.dropout(torch.ones(1))
        assert sorted(seen) == sorted(order[gone:])
        jobs[number].detach_all()
    assert nn.functional.dropout is bare


def test_modules_that_imported_the_function_are_watched_too(
    job: Job, ours: Any, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    early, late = ModuleType("early_importer"), ModuleType("late_importer")
    monkeypatch.setitem(sys.modules, "early_importer", early)
    monkeypatch.setitem(sys.modules, "late_importer", late)
    bare = early.double = ours.double  # type: ignore[attr-defined]
    subscription = log.watch(job, "watched_module.double")
    late.taken = ours.double  # type: ignore[attr-defined]

    early.double(1)
    late.taken(2)
    assert [line[:2] for line in log.lines if line[0] == "before"] == [("before", 1), ("before", 2)]
    kept = late.taken
    subscription.remove()

    assert early.double is bare
    assert late.taken is bare
    assert kept(4) == 8
    assert len(log.lines) == 4


@pytest.mark.parametrize(
    ("name", "call", "expected"),
    [
        ("Base.method", lambda m: m.Base().method(1), 2),
        ("Child.method", lambda m: m.Child().method(1), 2),
        ("Child.method", lambda m: m.Grandchild().method(1), 20),
        ("Base.static", lambda m: m.Base.static(1), 3),
        ("Base.static", lambda m: m.Child().static(1), 3),
        ("Child.static", lambda m: m.Child.static(1), 3),
        ("Base.of_class", lambda m: m.Base.of_class(1), ("Base", 1)),
        ("Base.of_class", lambda m: m.Child.of_class(1), ("Child", 1)),
        ("Child.of_class", lambda m: m.Child().of_class(1), ("Child", 1)),
    ],
)
def test_methods_of_every_kind(job: Job, ours: Any, name: str, call: Any, expected: Any) -> None:
    before = {kind: dict(vars(kind)) for kind in (ours.Base, ours.Child, ours.Grandchild)}
    results: list[Any] = []
    subscription = job.calls.watch(
        f"watched_module.{name}", after=lambda token, result: results.append(result)
    )
    assert call(ours) == expected
    assert len(results) == 1
    subscription.remove()

    assert {kind: dict(vars(kind)) for kind in before} == before
    assert call(ours) == expected
    assert len(results) == 1


def test_a_method_watched_on_a_child_leaves_the_parent_alone(job: Job, ours: Any) -> None:
    seen: list[Any] = []
    job.calls.watch("watched_module.Child.method", before=lambda a, k: seen.append(type(a[0])))
    ours.Base().method(1)
    ours.Child().method(1)

    assert seen == [ours.Child]


def test_a_parent_and_child_watched_both_are_put_back_in_either_order(job: Job, ours: Any) -> None:
    before = dict(vars(ours.Base)), dict(vars(ours.Child))
    for reverse in (False, True):
        subscriptions = [
            job.calls.watch(f"watched_module.{kind}.method") for kind in ("Base", "Child")
        ]
        for subscription in reversed(subscriptions) if reverse else subscriptions:
            subscription.remove()
        assert (dict(vars(ours.Base)), dict(vars(ours.Child))) == before


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("torch.add", lambda: torch.add(torch.ones(1), 1)),
        ("torch.Tensor.add_", lambda: torch.ones(1).add_(1)),
        ("torch.Tensor.__add__", lambda: torch.ones(1) + 1),
        ("torch.nn.functional.relu", lambda: nn.ReLU()(torch.ones(1))),
        ("torch.nn.Linear.forward", lambda: nn.Linear(1, 1)(torch.ones(1))),
        ("torch.nn.Module.to", lambda: nn.Linear(1, 1).to("cpu")),
        (
            "torch.autograd.backward",
            lambda: torch.autograd.backward(torch.ones(1, requires_grad=True)),
        ),
        ("torch.save", lambda: torch.save({}, io.BytesIO())),
    ],
)
def test_functions_of_torch(job: Job, name: str, call: Any) -> None:
    owner_name, _, attribute = name.rpartition(".")
    owner = eval(owner_name, {"torch": torch})
    before = owner.__dict__.get(attribute)
    seen: list[int] = []
    subscription = job.calls.watch(name, before=lambda a, k: seen.append(1))
    call()
    subscription.remove()
    call()

    assert seen == [1]
    assert owner.__dict__.get(attribute) is before


def test_an_optimizers_step_is_seen_and_its_class_untouched(job: Job) -> None:
    weight = nn.Parameter(torch.ones(1))
    weight.grad = torch.ones(1)
    adam, sgd = torch.optim.Adam([weight]), torch.optim.SGD([weight], lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(adam, 1)
    step_of_class, step_of_instance = torch.optim.Adam.step, adam.__dict__.get("step")
    log: list[tuple[str, Any]] = []
    subscription = job.calls.watch(
        "torch.optim.Adam.step",
        before=lambda args, kwargs: (log.append(("before", args[0])), "token")[1],  # type: ignore[func-returns-value]
        after=lambda token, result: log.append(("after", token)),
    )
    adam.step()
    sgd.step()
    scheduler.step()
    subscription.remove()
    adam.step()

    assert log == [("before", adam), ("after", "token")]
    assert torch.optim.Adam.step is step_of_class
    assert adam.__dict__.get("step") is step_of_instance


def test_a_step_watched_before_its_class_has_an_instance(job: Job) -> None:
    class Fresh(torch.optim.Adadelta):
        pass

    seen: list[type] = []
    job.calls.watch("torch.optim.Adadelta.step", before=lambda a, k: seen.append(type(a[0])))
    weight = nn.Parameter(torch.ones(1))
    weight.grad = torch.ones(1)
    Fresh([weight]).step()
    torch.optim.Adadelta([weight]).step()

    assert seen == [Fresh, torch.optim.Adadelta]


def test_a_failing_callback_ends_the_watch_and_not_the_call(
    job: Job, ours: Any, said: io.StringIO
) -> None:
    bare = ours.double
    for phase in ("before", "after"):
        job.calls.watch("watched_module.double", **{phase: lambda *_: 1 / 0})
        assert ours.double(2) == 4
        assert ours.double is bare
    assert said.getvalue().count("failed in a callback on 'watched_module.double'") == 2


def test_a_generator_function_is_watched_where_it_begins(job: Job, ours: Any, log: Log) -> None:
    log.watch(job, "watched_module.counts")
    generator = ours.counts(2)
    assert next(generator) == 0
    assert [line[0] for line in log.lines] == ["before", "after"]
    assert list(generator) == [1]
    assert len(log.lines) == 2


KINDS = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)


@pytest.mark.parametrize("name", ["double", "counts", "awaits", "streams"])
def test_a_watched_function_is_of_the_same_kind(job: Job, ours: Any, log: Log, name: str) -> None:
    bare = [is_kind(getattr(ours, name)) for is_kind in KINDS]
    log.watch(job, f"watched_module.{name}")

    assert [is_kind(getattr(ours, name)) for is_kind in KINDS] == bare


def test_a_coroutine_function_is_awaited(job: Job, ours: Any, log: Log) -> None:
    log.watch(job, "watched_module.awaits")

    assert asyncio.run(ours.awaits(3)) == 4
    assert [line[:2] for line in log.lines] == [("before", 3), ("after", 3)]


@pytest.mark.parametrize("watched", [False, True])
def test_an_async_generator_takes_what_is_sent_and_thrown(
    job: Job, ours: Any, log: Log, watched: bool
) -> None:
    async def use() -> list[Any]:
        stream = ours.streams(1)
        got = [await anext(stream), await stream.asend(5), await stream.athrow(KeyError("x"))]
        await stream.aclose()
        return [*got, *[item async for item in ours.streams(0)], ours.CLOSED]

    if watched:
        log.watch(job, "watched_module.streams")

    assert asyncio.run(use()) == [1, 5, "thrown", 0, ["closed"]]
    assert len(log.lines) == (4 if watched else 0)


def test_a_builtin_or_bound_method_in_a_class_does_not_bind(job: Job, ours: Any, log: Log) -> None:
    before = dict(vars(ours.Borrower))
    for name in ("root", "add"):
        log.watch(job, f"watched_module.Borrower.{name}")
    borrower = ours.Borrower()

    assert (borrower.root(9.0), ours.Borrower.root(4.0)) == (3.0, 2.0)
    assert (borrower.add(1), ours.Borrower.add(2)) == (2, 3)
    assert [line[:2] for line in log.lines if line[0] == "before"] == [
        ("before", 9.0), ("before", 4.0), ("before", 1), ("before", 2),
    ]  # fmt: skip
    job.detach_all()
    assert dict(vars(ours.Borrower)) == before


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        ("torch.nn.functional.droput", UnknownName, "torch.nn.functional.dropout"),
        ("torch.optim.Adam.stepp", UnknownName, "torch.optim.Adam.step"),
        ("no_such_module_anywhere.f", UnknownName, "unknown module"),
        ("dropout", BadValue, "write the module too"),
        ("torch.nn..functional", BadValue, "not the full name"),
        ("watched_module.Base.prop", BadValue, "is a property"),
        ("watched_module.Base", BadValue, "is a class; watch 'watched_module.Base.__init__'"),
        ("watched_module.CONSTANT", BadValue, "is a int"),
        ("builtins.int.__add__", BadValue, "cannot be watched"),
    ],
)
def test_what_cannot_be_watched_is_refused_by_name(
    job: Job, ours: Any, name: str, error: type[Exception], says: str
) -> None:
    with pytest.raises(error) as raised:
        job.calls.watch(name, before=print)
    assert says in str(raised.value)
    assert len(str(raised.value)) < 400


def test_a_module_not_yet_imported_is_waited_for(
    job: Job, log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "late_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "part.py").write_text("class A:\n    def f(self): return 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    finders = list(sys.meta_path)
    log.watch(job, "late_package.part.A.f")
    import late_package  # type: ignore[import-not-found]

    assert not log.lines
    part = importlib.import_module("late_package.part")
    part.A().f()

    assert len(log.lines) == 2
    assert sys.meta_path == finders
    for module in (late_package, part):
        assert module.__spec__ is not None
        assert module.__loader__ is module.__spec__.loader
        assert type(module.__loader__).__name__ == "SourceFileLoader"
        del sys.modules[module.__name__]


def test_a_name_that_its_import_does_not_bring_fails_its_subscription(
    job: Job, said: io.StringIO, log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "late_module.py").write_text("def present(): ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    log.watch(job, "late_module.absent")
    importlib.import_module("late_module")
    del sys.modules["late_module"]

    assert "unknown function of late_module 'late_module.absent'" in said.getvalue()
    assert "late_module.present" in said.getvalue()


def test_giving_up_waiting_takes_the_finder_away(job: Job, log: Log) -> None:
    finders = list(sys.meta_path)
    subscription = log.watch(job, "wave.open")
    assert len(sys.meta_path) == len(finders) + ("wave" not in sys.modules)
    subscription.remove()

    assert sys.meta_path == finders


def test_compiled_code_computes_the_same_and_its_calls_are_gone(job: Job) -> None:
    seen: list[int] = []
    job.calls.watch("torch.nn.functional.relu", before=lambda a, k: seen.append(1))

    def compute(x: torch.Tensor) -> torch.Tensor:
        return nn.functional.relu(x) + 1

    compiled = torch.compile(compute, backend="aot_eager", fullgraph=True)
    x = torch.randn(4)

    assert torch.equal(compiled(x), torch.relu(x) + 1)
    traced = len(seen)  # the compiler's own calls; how many depends on what it has cached
    for _ in range(3):
        assert torch.equal(compiled(x), torch.relu(x) + 1)
    assert len(seen) == traced


def test_what_the_program_put_there_meanwhile_stays(job: Job, ours: Any, log: Log) -> None:
    subscription = log.watch(job, "watched_module.Base.method")

    def replacement(self: Any, x: int) -> int:
        return -x

    ours.Base.method = replacement
    subscription.remove()

    assert ours.Base.__dict__["method"] is replacement


class _Passing(TorchFunctionMode):
    """Hands every call on, as modes do."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


class _Kind(torch.Tensor):
    """A tensor subclass, to which torch hands calls over as well."""


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("torch.nn.functional.dropout", lambda x: nn.functional.dropout(x, 0.5)),
        ("torch.nn.functional.gelu", lambda x: nn.functional.gelu(x)),
        ("torch.Tensor.add", lambda x: x.add(x)),
        ("torch.Tensor.norm", lambda x: x.norm()),
        ("torch.add", lambda x: torch.add(x, x)),
        ("torch.ones", lambda x: torch.ones(2)),
    ],
)
@pytest.mark.parametrize(
    "mode",
    [lambda: torch.device("cpu"), _Passing, contextlib.nullcontext],
    ids=["device", "mode", "none"],
)
@pytest.mark.parametrize("kind", [torch.Tensor, _Kind])
def test_a_call_that_torch_hands_to_a_mode_counts_once(
    job: Job, name: str, call: Any, mode: Any, kind: Any
) -> None:
    seen: list[str] = []
    job.calls.watch(
        name, before=lambda *_: seen.append("before"), after=lambda *_: seen.append("after")
    )
    x = torch.ones(2).as_subclass(kind)
    seen.clear()
    with mode():
        call(x)
        call(x)

    assert seen == ["before", "after"] * 2


def test_a_function_of_torch_that_calls_itself_counts_each(job: Job) -> None:
    seen: list[int] = []
    job.calls.watch(
        "torch.utils._pytree.tree_map", before=lambda args, kwargs: seen.append(len(args))
    )
    pytree = torch.utils._pytree
    pytree.tree_map(lambda leaf: pytree.tree_map(abs, leaf), [-1, -2])

    assert len(seen) == 3


@pytest.mark.parametrize("phase", ["before", "after"])
def test_what_a_callback_does_is_not_the_programs(job: Job, phase: str, model: nn.Module) -> None:
    """Of a callback at any tap: its own calls, steps and forwards are seen at none."""
    seen: list[str] = []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    own = nn.Linear(4, 4)
    own_optimizer = torch.optim.SGD(own.parameters(), lr=0.1)

    def works(*_: Any) -> None:
        own(torch.ones(1, 4))
        own_optimizer.step()
        nn.functional.relu(torch.ones(1))

    def note(kind: str) -> Any:
        def callback(*_: Any) -> None:
            seen.append(kind)
            works()

        return callback

    job.steps.subscribe(**{phase: note("step")})
    job.steps.subscribe_forward(**{phase: note("forward")})
    job.calls.watch("torch.nn.functional.relu", **{phase: note("call")})
    job.calls.watch("torch.optim.SGD.step", **{phase: note("step, watched")})
    for _ in range(2):
        model(torch.ones(1, 4))
        optimizer.step()

    assert sorted(seen) == sorted(["call", "forward", "step", "step, watched"] * 2)


def test_many_watches_made_together_are_in_place_at_the_end(job: Job, ours: Any, log: Log) -> None:
    bare, alias = ours.double, ModuleType("watched_alias")
    alias.twice = bare  # type: ignore[attr-defined]
    sys.modules["watched_alias"] = alias
    try:
        with job.calls.together():
            first = log.watch(job, "watched_module.double")
            second = log.watch(job, "watched_alias.twice")
            log.watch(job, "watched_module.Base.method")
            assert ours.double is bare
        assert ours.double is alias.twice is not bare
        ours.double(3)
        assert len(log.lines) == 4
        with job.calls.together():
            first.remove()
            second.remove()
        assert ours.double is alias.twice is bare
    finally:
        del sys.modules["watched_alias"]


def test_a_watch_that_ends_before_it_is_in_place_leaves_nothing(
    job: Job, ours: Any, log: Log
) -> None:
    bare = ours.double
    with job.calls.together():
        log.watch(job, "watched_module.double").remove()
    assert ours.double is bare
