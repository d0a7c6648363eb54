"""A recorded run, played back, is the run: to every sink, event for event."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from tests.check.stories import TRAIN, Story, Told
from tests.check.trace.logs import Log, played, recorder, tell

from remora.check.calls import OPTIMIZER_STEP, Call
from remora.check.checker import Checker, Finding
from remora.check.invariants import Invariants
from remora.check.learner import InvariantLearner
from remora.check.observation import Observation
from remora.check.observe.reading import DIGEST
from remora.check.relations.fresh import NEXT
from remora.check.sink import Sink
from remora.check.tee import Tee
from remora.check.trace.numbers import Identities, Numbers
from remora.check.trace.replay import replay as play
from remora.check.values import identity, properties
from remora.core.errors import TraceUnusable


def test_a_sink_sees_what_it_saw_live(tmp_path: Path) -> None:
    live, record = Log(), recorder(tmp_path / "t", program="train.py", rank=3)
    tell(Tee(live, record))
    record.run_ended(0)
    record.close()

    seen, result = played(tmp_path / "t")
    assert seen == live.events
    assert (result.header.program, result.header.rank) == ("train.py", 3)
    assert (result.steps, result.events) == (5, len(live.events))
    assert (result.ended, result.exit_code, result.cut) == (True, 0, False)


@pytest.mark.parametrize("value", [
    (1, (2.0, "a")), (), 1.0, 1, True, None, -0.0, 2**70, -(2**70), 1e300, "\u2028\n\"", "\udc80",
    float("nan"), float("inf"), float("-inf"), (float("nan"), 1), ("\udc80",),
], ids=repr)  # fmt: skip
def test_every_value_survives(tmp_path: Path, value: object) -> None:
    live, record = Log(), recorder(tmp_path / "t")
    both = Tee(live, record)
    for other in (value, None, value):
        Story(both).step(Told("f", inputs={"x": other}, outputs={"result": other}))
    record.close()

    assert played(tmp_path / "t")[0] == live.events


def test_what_is_learned_and_found_is_the_same_live_and_from_a_trace(tmp_path: Path) -> None:
    def run(sink: Sink, *, broken: bool) -> None:
        story = Story(sink)
        for step in range(6):
            within = ["relu"] if broken and step > 2 else ["linear", "relu"]
            clear, back = "torch.optim.Optimizer.zero_grad", "torch.Tensor.backward"
            story.step(clear, Told("forward", within), back, Told(OPTIMIZER_STEP, thread=2))

    live, record = InvariantLearner(), recorder(tmp_path / "healthy")
    run(Tee(live, record), broken=False)
    live.run_ended("p")
    record.close()
    learner = InvariantLearner()
    play(tmp_path / "healthy", learner)
    learner.run_ended("p")
    assert learner.invariants() == live.invariants()
    assert len(live.invariants().invariants) > 4

    found_live, record = checking(live.invariants()), recorder(tmp_path / "broken")
    run(Tee(found_live[0], record), broken=True)
    record.close()
    found_later = checking(live.invariants())
    play(tmp_path / "broken", found_later[0])
    assert seen_by(found_later) == seen_by(found_live)


def checking(invariants: Invariants) -> tuple[Checker, list[Finding]]:
    findings: list[Finding] = []
    return Checker(invariants.invariants, findings.append), findings


def seen_by(checked: tuple[Checker, list[Finding]]) -> list[tuple[object, ...]]:
    checker, findings = checked
    assert findings
    judged = [(rule.claim, rule.triggered) for rule in checker.rules]
    found = [(one.invariant, one.step, one.seen, one.call and one.call.order) for one in findings]
    return [*judged, *found]


def test_parents_that_ended_first_or_never_are_found_again(tmp_path: Path) -> None:
    """As live: hooks tell of no end where a forward raised, and generators end out of turn."""
    live, record = Log(), recorder(tmp_path / "t")
    both, order = Tee(live, record), itertools.count()

    def begin(name: str, parent: Call | None) -> Call:
        call = Call(name, next(order), 1, parent, 0, {}, TRAIN)
        both.begin(call)
        return call

    outer = begin("generator", None)
    inner = begin("inner", outer)
    both.end(outer)
    both.end(inner)
    begin("after", outer)
    late = begin("late", outer)
    begin("between", None)
    both.end(late)
    begin("after that", outer)
    dead = begin("forward", None)
    lost = begin("lost", dead)
    both.end(begin("forward", lost))
    both.end(begin("forward", dead))
    record.close()

    assert played(tmp_path / "t")[0] == live.events


class Stepped(NamedTuple):
    """A call of the optimizer that has ended, and what it did to variables."""

    call: Call
    seen: list[Observation]


def stepped(sink: Sink, orders: Iterator[int], seen: list[Observation]) -> Stepped:
    call = Call(OPTIMIZER_STEP, next(orders), 1, None, 0, {}, TRAIN)
    sink.begin(call)
    sink.end(call)
    return Stepped(call, seen)


def test_what_was_seen_of_variables_is_seen_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once for those on the CPU, at the end of the step for others; then the contents."""
    monkeypatch.setattr(Numbers.__init__, "__defaults__", (3,))
    live, record = Log(), recorder(tmp_path / "t")
    both, orders, drawn = Tee(live, record), itertools.count(), random.Random(0)
    shared = [{"variable.kind": "parameter", "n": n} for n in range(4)]
    for step in range(30):
        chosen = drawn.sample(shared, 2)
        facts = [drawn.choice((True, False, None)) for _ in range(3)]
        now = [Observation(f"net.{n}", p, True, False, *facts) for n, p in enumerate(chosen)]
        first, second = (stepped(both, orders, now) for _ in range(2))
        both.changed(second.call, second.seen)
        both.changed(first.call, first.seen[:1])
        contents = {f"net.{n}": ("torch.float32", drawn.randrange(3)) for n in range(3)}
        both.compare(step, contents)
        both.step_ended(step)
    record.close()

    seen, result = played(tmp_path / "t")
    assert seen == live.events
    assert result.events == len(seen) == 30 * 8


def test_what_was_measured_is_measured_again(tmp_path: Path) -> None:
    live, record = Log(), recorder(tmp_path / "t")
    both, orders = Tee(live, record), itertools.count()
    for step in range(20):
        call = stepped(both, orders, []).call
        both.measured(call, {"norm": 0.1 * step, "odd": math.inf if step % 2 else -math.inf})
        both.measured(call, {"norm": 1.0, "odd": math.nan})
        both.step_ended(step)
    record.close()

    assert played(tmp_path / "t")[0] == live.events
    assert (tmp_path / "t").read_text().count('"norm"') == 1


@pytest.mark.parametrize(
    "numbers", ["[0,0,[1]]", "[1,0,[1,2]]", '[0,0,[1,{"odd":"float","value":"x"}]]']
)
def test_numbers_of_nothing_are_refused(tmp_path: Path, numbers: str) -> None:
    record, orders = recorder(tmp_path / "t"), itertools.count()
    record.measured(stepped(record, orders, []).call, {"a": 1.0, "b": 2.0})
    record.close()
    with (tmp_path / "t").open("a") as file:
        file.write(f'["numbers",{numbers[1:-1]}]\n')

    with pytest.raises(TraceUnusable, match="line 10: "):
        played(tmp_path / "t")


def test_equal_observations_are_written_once(tmp_path: Path) -> None:
    record, orders = recorder(tmp_path / "t"), itertools.count()
    many = [Observation(f"net.{n}", {"x": n}, True, False, True) for n in range(50)]
    for step in range(20):
        call, seen = stepped(record, orders, many)
        record.changed(call, seen)
        record.compare(step, dict.fromkeys((one.name for one in many), ("torch.float32", step)))
        record.step_ended(step)
    record.close()

    text = (tmp_path / "t").read_text()
    assert text.count('"net.49"') == 2
    assert played(tmp_path / "t")[1].events == 20 * 5


def test_only_calls_that_are_looked_at_are_remembered(tmp_path: Path) -> None:
    record = recorder(tmp_path / "t")
    tell(record)
    record.close()
    path = tmp_path / "t"
    path.write_text(path.read_text() + '["observations",0,[]]\n["changed",0,0]\n')
    with pytest.raises(TraceUnusable, match="call 0, which changed variables, has not ended"):
        play(path, Log())


def test_identities_are_equal_where_they_were(tmp_path: Path) -> None:
    """And are kept out of what repeats."""
    live, record = InvariantLearner(), recorder(tmp_path / "t")
    story = Story(Tee(live, record))
    for _ in range(6):
        tensors = [torch.zeros(2) for _ in range(3)]
        calls = []
        for tensor in tensors:
            inputs: dict[str, Any] = {}
            properties("tensor", tensor, inputs)
            outputs = {name.replace("tensor", "result"): one for name, one in inputs.items()}
            calls.append(Told("torch.nn.init.normal_", inputs=inputs, outputs=outputs))
        story.step(*calls)
    record.close()
    live.run_ended("p")
    later = InvariantLearner()
    play(tmp_path / "t", later)
    later.run_ended("p")

    assert later.invariants() == live.invariants()
    words = {one.words() for one in live.invariants().invariants}
    assert "result.identity of torch.nn.init.normal_ equals tensor.identity" in words
    assert any(one.startswith("no two calls of torch.nn.init.normal_ in a step") for one in words)
    assert (tmp_path / "t").read_text().count('["properties"') == 3


def test_digests_of_batches_are_equal_where_they_were(tmp_path: Path) -> None:
    live, record = InvariantLearner(), recorder(tmp_path / "t")
    assert DIGEST in record.wanted(NEXT).outputs
    iterator: dict[str, Any] = {}
    properties("self", Log(), iterator)
    story = Story(Tee(live, record))
    for number in range(40):
        story.step(Told(NEXT, inputs=iterator, outputs={DIGEST: (2**63 + number,)}))
    record.close()
    live.run_ended("p")
    later = InvariantLearner()
    play(tmp_path / "t", later)
    later.run_ended("p")

    assert [one.relation for one in live.invariants().invariants] == ["fresh"]
    assert later.invariants() == live.invariants()
    assert (tmp_path / "t").read_text().count('["properties"') == 3
    repeats: list[Finding] = []
    again = Story(Checker(live.invariants().invariants, repeats.append))
    again.step(*[Told(NEXT, inputs=iterator, outputs={DIGEST: (1,)})] * 2)
    assert len(repeats) == 1


def test_an_identity_keeps_its_number_while_it_is_there() -> None:
    numbers, kept = Identities(most=4), torch.zeros(1)
    first = numbers.number(identity(kept))
    for _ in range(20):
        gone = torch.zeros(1)
        assert numbers.number(identity(gone)) != first
        assert numbers.number(identity(kept)) == first
        assert numbers.number(identity(kept.view(1))) == first
    assert len(numbers._known) <= 4

    many = [torch.zeros(1) for _ in range(20)]
    given = [numbers.number(identity(one)) for one in many]
    assert [numbers.number(identity(one)) for one in many] == given
    assert len({first, *given}) == 21


def test_numbers_are_given_anew_when_they_run_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Numbers.__init__, "__defaults__", (4,))
    monkeypatch.setattr("remora.check.trace.replay.MOST_NUMBERS", 4)
    live, record = Log(), recorder(tmp_path / "t")
    story, drawn = Story(Tee(live, record)), random.Random(0)
    for _ in range(200):
        story.step(
            Told(
                f"f{drawn.randrange(9)}",
                [Told("g", thread=1)],
                inputs={"x": drawn.randrange(6)},
                outputs={"x": drawn.randrange(6)},
                context={"x": drawn.randrange(6)},
                thread=drawn.randrange(9),
            )
        )
    record.close()

    assert played(tmp_path / "t")[0] == live.events


def test_repeated_names_and_properties_are_written_once(tmp_path: Path) -> None:
    record = recorder(tmp_path / "t")
    tell(record, steps=50)
    record.close()

    text = (tmp_path / "t").read_text()
    assert (text.count('"linear"'), text.count("torch.float32")) == (1, 1)
    assert len(text) / text.count("\n") < 40
