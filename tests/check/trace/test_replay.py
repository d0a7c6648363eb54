"""A recorded run, played back, is the run: to every sink, event for event."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest
from tests.check.stories import TRAIN, Story, Told
from tests.check.trace.logs import Log, played, recorder, tell

from remora.check.calls import Call
from remora.check.checker import Checker, Finding
from remora.check.invariants import Invariants
from remora.check.learner import InvariantLearner
from remora.check.sink import Sink
from remora.check.tee import Tee
from remora.check.trace.replay import replay as play


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
            story.step("zero_grad", Told("forward", within), Told("step", thread=2))

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
    dead = begin("forward", None)
    lost = begin("lost", dead)
    both.end(begin("forward", lost))
    both.end(begin("forward", dead))
    record.close()

    assert played(tmp_path / "t")[0] == live.events


def test_numbers_are_given_anew_when_they_run_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("recorder", "replay"):
        monkeypatch.setattr(f"remora.check.trace.{module}.MOST_NUMBERS", 4)
    live, record = Log(), recorder(tmp_path / "t")
    story, drawn = Story(Tee(live, record)), random.Random(0)
    for _ in range(200):
        story.step(
            Told(
                f"f{drawn.randrange(9)}",
                [Told("g", thread=1)],
                inputs={"x": drawn.randrange(6)},
                outputs={"x": drawn.randrange(6)},
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
