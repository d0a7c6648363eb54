"""Files with any byte changed, cut or doubled: read, or refused in one line, and nothing else."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch  # noqa: F401  names parameters, so that reading goes all the way
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.check.trace.logs import recorder, tell
from tests.check.traincheck import test_replay as records
from tests.check.traincheck.lines import api, clause, file_of, line, when

from remora.check.checker import Checker
from remora.check.conditions import Condition, Consistent, Constant, Unequal, Within
from remora.check.invariants import Header, Invariant, Invariants, write_invariants
from remora.check.offline import check_run, read_for_traces
from remora.check.relations.changes import Changes
from remora.check.relations.consistent import Consistent as Equal
from remora.check.relations.constant_input import ConstantInput
from remora.check.relations.constant_output import ConstantOutput
from remora.check.relations.contains import Contains
from remora.check.relations.cover import Cover
from remora.check.relations.distinct import Distinct
from remora.check.relations.fresh import Fresh
from remora.check.relations.input_output import InputOutput
from remora.check.relations.lead import Lead
from remora.check.relations.threshold import Threshold
from remora.check.traincheck.reading import Reading, read_any
from remora.core.errors import InvariantsUnusable, TraceUnusable

WHEN = Condition(any_of=(
    (Constant("phase", ("train",)), Consistent("x"), Unequal("y")),
    (Within("torch.no_grad", {"mode": True}),),
))  # fmt: skip
CLAIMS = (
    Contains("f", "g", {"a": 1}), Cover("f", "g"), Lead("f", "g"), Distinct("f", ("a",)),
    Changes("f", "parameter", "changed"), Equal("a.weight", "b.weight"), Fresh("f"),
    ConstantInput("f", "a", (1.5,)), ConstantOutput("f", "result.dtype", ("torch.float32",)),
    InputOutput("f", "x.shape", "result.shape"), Threshold("f", "result", "max", "max"),
)  # fmt: skip


def our_invariants(path: Path) -> Path:
    each = tuple(Invariant(claim=claim, when=WHEN, support=3) for claim in CLAIMS)
    write_invariants(path, Invariants(header=Header(torch="2.9"), invariants=each))
    return path


def their_invariants(path: Path) -> Path:
    condition = when(
        clause("constant", "meta_vars.step", [1]), clause("exist", "context_managers.a")
    )
    return file_of(
        path,
        line("APIContainRelation", api("app.f"), api("app.g", x={"int": 1}), condition=condition),
        line("FunctionLeadRelation", api("app.f"), api("app.g"), group="func_lead"),
        line("DistinctArgumentRelation", api("app.f"), group="distinct_arg"),
    )  # fmt: skip


def our_trace(path: Path) -> Path:
    path.mkdir()
    record = recorder(path / "rank0-pid1.jsonl")
    tell(record)
    record.close()
    return path


def their_trace(path: Path) -> Path:
    path.mkdir()
    return records.trace(path, [
        records.begin("app.f", 1, args={"0": {"torch.FloatTensor": {"shape": [2, 3]}}}),
        *records.both("app.g", 2), records.state("w", 4), records.end("app.f", 6),
        *records.both("app.g", 8, step=1),
    ])  # fmt: skip


@st.composite
def damage(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """A byte changed, a stretch left out, or one written twice."""
    at, length = draw(st.floats(0, 1)), draw(st.integers(0, 40))
    new = draw(st.binary(max_size=3) | st.sampled_from([b"\n", b'"', b"}", b"-1", b"1e999", b"[["]))
    twice = draw(st.booleans())

    def change(data: bytes) -> bytes:
        first = int(at * len(data))
        kept = data[first : first + length] if twice else b""
        return data[:first] + new + kept + data[first + (0 if twice else length) :]

    return change


def read_whole(path: Path) -> None:
    reading = read_any(path)
    Checker(reading.invariants.invariants, lambda _: None)
    for one in reading.invariants.invariants:
        assert one.words() and one.name and one.relation  # noqa: PT018
    assert all(one.reason for one in reading.not_checked(live=True))


hostile = settings(
    max_examples=60, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip


@pytest.mark.parametrize("made", [our_invariants, their_invariants])
@hostile
@given(change=damage())
def test_invariants(
    made: Callable[[Path], Path], change: Callable[[bytes], bytes],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:  # fmt: skip
    path = made(tmp_path_factory.mktemp("hostile") / "f.inv")
    path.write_bytes(change(path.read_bytes()))
    try:
        read_whole(path)
    except InvariantsUnusable as error:
        assert str(path) in str(error)  # noqa: PT017
        assert "\n" not in str(error)  # noqa: PT017


def leaves(told: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of everything within ``told``."""
    inner = told.items() if isinstance(told, dict) else enumerate(told)
    for key, value in inner:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from leaves(value, (*path, key))


def put(told: Any, path: Sequence[Any], value: object) -> None:
    for key in path[:-1]:
        told = told[key]
    told[path[-1]] = value


@pytest.mark.parametrize("made", [our_invariants, their_invariants])
@pytest.mark.parametrize("value", ["zzz", [], None, -1])
def test_any_value_replaced_by_another(
    made: Callable[[Path], Path], value: object, tmp_path: Path
) -> None:
    path = made(tmp_path / "f.inv")
    lines = path.read_text().splitlines()
    for number, line_of_it in enumerate(lines):
        for place in leaves(json.loads(line_of_it)):
            told = json.loads(line_of_it)
            put(told, place, value)
            header = lines[:1] if made is our_invariants and number else []
            path.write_text("\n".join([*header, json.dumps(told)]))
            with contextlib.suppress(InvariantsUnusable):
                read_whole(path)


@pytest.fixture(scope="module")
def every_claim(tmp_path_factory: pytest.TempPathFactory) -> Reading:
    return read_for_traces(our_invariants(tmp_path_factory.mktemp("whole") / "f.inv"))


@pytest.mark.parametrize("made", [our_trace, their_trace])
@hostile
@given(change=damage())
def test_traces(
    made: Callable[[Path], Path], change: Callable[[bytes], bytes],
    tmp_path_factory: pytest.TempPathFactory, every_claim: Reading,
) -> None:  # fmt: skip
    folder = made(tmp_path_factory.mktemp("hostile") / "run")
    [file] = folder.iterdir()
    file.write_bytes(change(file.read_bytes()))
    try:
        check_run(every_claim, folder, lambda _: None)
    except TraceUnusable as error:
        assert str(file) in str(error)  # noqa: PT017
        assert "\n" not in str(error)  # noqa: PT017
