"""TrainCheck's traces replayed: what a sink sees of them, and what is damaged or cut."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.check.traincheck.published import published

from remora.check.calls import Call
from remora.check.checker import Checker, Finding
from remora.check.conditions import Condition, Constant
from remora.check.invariants import Invariant
from remora.check.learner import InvariantLearner
from remora.check.relations.contains import Contains
from remora.check.relations.contract import ALL
from remora.check.relations.cover import Cover
from remora.check.relations.registry import RELATIONS
from remora.check.sink import Sink, Wanted
from remora.check.traincheck.reading import read_any
from remora.check.traincheck.replay import Replayed, VariableState, replay
from remora.core.errors import TraceUnusable

STEP = "torch.optim.Optimizer.step"


class Log(Sink):
    """Writes down what it is told."""

    def __init__(self, wanted: frozenset[str] = ALL) -> None:
        self.told: list[str] = []
        self.calls: list[Call] = []
        self._wanted = wanted

    def wanted(self, function: str) -> Wanted:
        return Wanted(self._wanted, self._wanted)

    def begin(self, call: Call) -> None:
        self.calls.append(call)
        self.told.append(f"{call.function} in {call.parent.function if call.parent else None}")

    def end(self, call: Call) -> None:
        self.told.append(f"{call.function} {'failed' if call.failed else 'ended'}")

    def step_ended(self, step: int) -> None:
        self.told.append(f"step {step}")


def begin(name: str, time: int, *, step: int | None = 0, **more: Any) -> dict[str, Any]:
    """The record of a call of ``name`` that begins; its id is its name unless ``id`` says."""
    return {
        "type": "function_call (pre)", "function": name, "func_call_id": more.pop("id", name),
        "process_id": 1, "thread_id": 1, "time": time, "is_bound_method": False, "obj_id": None,
        "meta_vars": {} if step is None else {"step": step}, "args": {}, "kwargs": {}, **more,
    }  # fmt: skip


def end(name: str, time: int, *, raised: bool = False, **more: Any) -> dict[str, Any]:
    told = begin(name, time, **more)
    del told["args"], told["kwargs"]
    told["type"] = f"function_call (post){' (exception)' if raised else ''}"
    return {"return_values": {"NoneType": None}, **told}


def both(name: str, time: int, **more: Any) -> list[dict[str, Any]]:
    return [begin(name, time, **more), end(name, time + 1, **more)]


def state(name: str, time: int, **more: Any) -> dict[str, Any]:
    return {
        "type": "state_change", "var_name": name, "var_type": "torch.nn.Parameter",
        "process_id": 1, "thread_id": 1, "time": time, "mode": "proxy", "dump_loc": "step",
        "meta_vars": {"step": 0}, "attributes": {"data": 7, "requires_grad": True}, **more,
    }  # fmt: skip


def trace(
    folder: Path, records: Sequence[Mapping[str, Any] | str], name: str = "trace_API_1_1.log"
) -> Path:
    """A file of a trace; a string is written as it is, without the end of the line."""
    told = (one if isinstance(one, str) else f"{json.dumps(one)}\n" for one in records)
    (folder / name).write_text("".join(told))
    return folder


def replayed(folder: Path, records: Sequence[Mapping[str, Any] | str]) -> tuple[Log, Replayed]:
    log = Log()
    return log, replay(trace(folder, records), log)


# ---------------------------------------------------------------- calls


def test_calls_nest_as_they_began_and_ended(tmp_path: Path) -> None:
    log, result = replayed(
        tmp_path, [begin("app.a", 1), *both("app.b", 2), *both("app.c", 4), end("app.a", 6)]
    )

    assert log.told == [
        "app.a in None", "app.b in app.a", "app.b ended", "app.c in app.a", "app.c ended",
        "app.a ended", "step 0",
    ]  # fmt: skip
    assert result == Replayed(calls=3, steps=1)


def test_functions_have_our_names_and_an_optimizers_step_its_class(tmp_path: Path) -> None:
    log, _ = replayed(tmp_path, both("torch.optim.adam.Adam.step", 1, args={"0": {"Adam": {}}}))

    assert log.calls[0].function == STEP
    assert log.calls[0].inputs == {"self.kind": "Adam"}


def test_a_call_that_raised_has_failed(tmp_path: Path) -> None:
    log, result = replayed(tmp_path, [begin("app.a", 1), end("app.a", 2, raised=True)])

    assert log.told[:2] == ["app.a in None", "app.a failed"]
    assert result.unfinished == 0


def test_a_call_without_an_end_has_failed_and_lacks_nothing(tmp_path: Path) -> None:
    records = [begin("app.a", 1), begin("app.b", 2), end("app.a", 3), begin("app.c", 4)]
    log, result = replayed(tmp_path, records)
    found: list[Finding] = []
    lacking = Invariant(claim=Contains("app.b", "app.x"))
    replay(tmp_path, Checker([lacking, Invariant(claim=Contains("app.c", "app.x"))], found.append))

    assert log.told == [
        "app.a in None", "app.b in app.a", "app.b failed", "app.a ended", "app.c in None",
        "app.c failed", "step 0",
    ]  # fmt: skip
    assert result.unfinished == 2
    assert found == []


def test_an_end_without_a_beginning_is_counted(tmp_path: Path) -> None:
    log, result = replayed(tmp_path, [end("app.z", 1), *both("app.a", 2)])

    assert log.told[0] == "app.a in None"
    assert result.unmatched == 1


def test_threads_and_processes_nest_each_for_themselves(tmp_path: Path) -> None:
    here = [begin("app.a", 1), end("app.a", 9)]
    trace(tmp_path, here)
    trace(tmp_path, both("app.b", 2, thread_id=2), "trace_API_1_2.log")
    trace(tmp_path, both("app.c", 4, process_id=2), "trace_API_2_1.log")
    log = Log()
    replay(tmp_path, log)

    assert [one for one in log.told if " in " in one] == [
        "app.a in None", "app.b in None", "app.c in None",
    ]  # fmt: skip
    assert len({call.thread for call in log.calls}) == 3
    assert [call.order for call in log.calls] == [0, 1, 2]


def test_only_what_somebody_asked_for_is_handed_on(tmp_path: Path) -> None:
    nested = [begin("app.a", 1), begin("app.b", 2), *both("app.c", 3), end("app.b", 5),
              end("app.a", 6)]  # fmt: skip
    found: list[Finding] = []
    checker = Checker([Invariant(claim=Contains("app.a", "app.c"))], found.append)
    replay(trace(tmp_path, nested), checker)

    assert found == []
    assert checker.rules[0].triggered == 1


# ---------------------------------------------------------------- steps


def test_a_step_is_over_when_the_next_has_begun(tmp_path: Path) -> None:
    records = [
        *both("app.a", 1, step=-1), *both("app.b", 3), *both("app.c", 5, step=None),
        *both("app.d", 7, step=2), *both("app.e", 9, step=1),
    ]  # fmt: skip
    log, result = replayed(tmp_path, records)

    assert [one for one in log.told if one.startswith("step")] == ["step -1", "step 0", "step 2"]
    assert [call.step for call in log.calls] == [-1, 0, 0, 2, 2]
    assert result.steps == 3


def test_what_processes_did_in_one_step_comes_before_the_next(tmp_path: Path) -> None:
    trace(tmp_path, [*both("app.a", 1), *both("app.b", 3, step=1)])
    late = [*both("app.c", 50, process_id=2), *both("app.d", 60, step=1, process_id=2)]
    trace(tmp_path, late, "trace_API_2_1.log")
    log = Log()
    replay(tmp_path, log)

    assert [one.partition(" in ")[0] for one in log.told if "ended" not in one] == [
        "app.a", "app.c", "step 0", "app.b", "app.d", "step 1",
    ]  # fmt: skip


# ---------------------------------------------------------------- properties


def test_inputs_are_named_as_in_a_running_job(tmp_path: Path) -> None:
    import torch  # noqa: F401  its functions tell the names of their parameters

    attributes = {"dtype": "torch.float32", "shape": [2], "_ML_DAIKON_data_ID": 3}
    given: dict[str, Any] = {
        "args": {"0": {"torch.FloatTensor": attributes}},
        "kwargs": {"p": {"float": 0.5}},
    }
    known = begin("torch.nn.functional.dropout", 1, **given)
    unknown = begin("app.f", 2, args={"0": {"int": 4}}, is_bound_method=False)
    log, _ = replayed(tmp_path, [known, unknown])

    assert log.calls[0].inputs == {
        "input.kind": "torch.Tensor", "input.dtype": "torch.float32", "input.shape": (2,),
        "input.identity": (3, (2,)), "p": 0.5,
    }  # fmt: skip
    assert log.calls[1].inputs == {"0": 4}


def test_a_methods_object_is_told_apart_by_its_number(tmp_path: Path) -> None:
    method = begin("app.M.f", 1, args={"0": {"app.M": {}}}, is_bound_method=True, obj_id=9)
    log, _ = replayed(tmp_path, [method])

    assert log.calls[0].inputs == {"0.kind": "app.M", "0.identity": (9,)}


def test_results_are_read(tmp_path: Path) -> None:
    log, _ = replayed(tmp_path, [begin("app.f", 1), end("app.f", 2, return_values={"bool": True})])

    assert log.calls[0].outputs == {"result": True}


def test_what_only_a_trace_has_is_read_when_it_is_asked_for(tmp_path: Path) -> None:
    meta = {"step": 3, "stage": "training", "lib.py:__init__.size": 1, "group.0": {"lr": 0.5}}
    trace(tmp_path, both("app.f", 1, meta_vars=meta))
    everything, asked = Log(), Log(frozenset({
        "meta_vars.step", "meta_vars.lib.py:__init__.size", "meta_vars.group.0.lr", "meta_vars.no",
        "thread_id",
    }))  # fmt: skip
    replay(tmp_path, everything)
    replay(tmp_path, asked)

    assert everything.calls[0].context == {"phase": "train"}
    assert asked.calls[0].context == {
        "phase": "train", "meta_vars.step": 3, "meta_vars.lib.py:__init__.size": 1,
        "meta_vars.group.0.lr": 0.5, "thread_id": 1,
    }  # fmt: skip


def test_a_condition_on_the_step_is_judged_on_a_trace(tmp_path: Path) -> None:
    when = Condition(((Constant("meta_vars.step", (-1.0,)),),))
    invariant = Invariant(claim=Contains("app.a", "app.x"), when=when)
    found: list[Finding] = []
    replay(
        trace(tmp_path, [*both("app.a", 1, step=-1), *both("app.a", 3)]),
        Checker([invariant], found.append),
    )

    assert [one.step for one in found] == [-1]


# ---------------------------------------------------------------- variables


def test_states_of_variables_come_in_order_with_the_calls(tmp_path: Path) -> None:
    log = Log()
    trace(tmp_path, [*both("app.a", 1), *both("app.b", 5)])
    trace(tmp_path, [state("fc.weight", 3)], "trace_VAR_1_1.log")
    trace(tmp_path, [state("fc.bias", 4)], "proxy_log.json")
    seen: list[tuple[int, VariableState]] = []
    result = replay(tmp_path, log, lambda one: seen.append((len(log.calls), one)))

    assert seen[0] == (1, VariableState(
        name="fc.weight", type="torch.nn.Parameter",
        attributes={"data": 7, "requires_grad": True}, time_ns=3, process=1, thread=1, step=0,
    ))  # fmt: skip
    assert [(calls, one.name) for calls, one in seen] == [(1, "fc.weight"), (1, "fc.bias")]
    assert result.states == 2
    assert replay(tmp_path, Log()).states == 2


# ---------------------------------------------------------------- damage


def test_a_last_line_that_is_cut_short_is_passed_over_and_said(tmp_path: Path) -> None:
    log, result = replayed(tmp_path, [*both("app.a", 1), '{"type": "function_call (p'])

    assert log.told[:2] == ["app.a in None", "app.a ended"]
    [warning] = result.warnings
    assert "trace_API_1_1.log, line 3: the last line is cut short" in warning


@pytest.mark.parametrize(
    "damaged", ["{\n", '{"type": "function_call (pre)"}', '{"type": "new"}\n', "[1]", "\0\n"]
)
def test_any_other_damage_is_an_error_that_names_file_and_line(
    tmp_path: Path, damaged: str
) -> None:
    with pytest.raises(TraceUnusable, match=r"trace_API_1_1\.log, line 3: "):
        replayed(tmp_path, [*both("app.a", 1), damaged])


def test_where_there_is_no_trace_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(TraceUnusable, match="holds no trace"):
        replay(tmp_path, Log())
    with pytest.raises(TraceUnusable, match="is not there"):
        replay(tmp_path / "missing", Log())


def test_one_file_of_a_trace_is_a_trace_and_an_empty_one_is_none_less(tmp_path: Path) -> None:
    trace(tmp_path, both("app.a", 1))
    trace(tmp_path, [], "trace_API_1_2.log")

    assert replay(tmp_path / "trace_API_1_1.log", Log()).calls == 1
    assert replay(tmp_path, Log()).calls == 1


# ---------------------------------------------------------------- verdicts


def violated(folder: Path) -> tuple[list[str], list[str]]:
    """The names of the invariants that are checked, and of those that do not hold."""
    reading = read_any(folder / "invariants.json")
    assert reading.unread == []
    found: list[Finding] = []
    replay(folder, Checker(reading.invariants.invariants, found.append))
    names = [one.name for one in reading.invariants.invariants]
    return names, [name for name in names if name in {one.invariant.name for one in found}]


def test_frozen_stages_that_are_trained_are_found_as_published() -> None:
    names, wrong = violated(published("mmpretrain-702"))

    assert names == wrong
    assert names == [
        Invariant(claim=Cover("mmpretrain.mock.freeze_stages", "torch.nn.Module.train")).name
    ]


@pytest.mark.skipif(
    "distinct" not in {relation.name for relation in RELATIONS}, reason="no relation distinct"
)
def test_weights_that_are_initialised_twice_are_found_as_published() -> None:
    names, wrong = violated(published("transformers-17877"))

    assert len(names) == 1
    assert names == wrong


def test_what_is_learned_of_a_trace_holds_of_it() -> None:
    folder = published("transformers-17877")
    learner = InvariantLearner()
    result = replay(folder, learner)
    learner.run_ended("trace")
    learned = learner.invariants().invariants
    found: list[Finding] = []
    replay(folder, Checker(learned, found.append))

    assert (result.calls, result.unfinished, result.unmatched) == (3921, 0, 0)
    assert len(learned) > 50
    assert found == []
