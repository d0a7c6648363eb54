"""What the profiler chooses, proven on operators whose times are told."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from remora.core.clock import ManualClock
from remora.core.errors import BadValue, UnknownName
from remora.share.slicing import registry
from remora.share.slicing.call import Call, bound
from remora.share.slicing.contract import Axis, Part
from remora.share.slicing.profiler import Settings, profile
from remora.share.slicing.slicing import Slicing

MS = 1_000_000
CPU = torch.device("cpu")
NEG = torch.ops.aten.neg.default


class Device:
    """It negates 64 rows; each row takes 1 ms, and each piece so long on top as its axis says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, axes: dict[str, int]) -> None:
        self.clock = ManualClock()
        self.wrong: dict[str, float] = {}
        self.pieces: list[tuple[str, int, int]] = []
        self.whole = 0
        self._axes = axes
        monkeypatch.setattr("remora.share.slicing.rehearsal.parts", self.parts)

    def parts(self, call: Call) -> list[Part]:
        axes = tuple(self._axis(call, name, extra_ms) for name, extra_ms in self._axes.items())
        return [Part("output", (call.out,), axes)]

    def _axis(self, call: Call, name: str, extra_ms: int) -> Axis:
        def run(begin: int, end: int) -> None:
            self.pieces.append((name, begin, end))
            self.clock.advance((end - begin + extra_ms) * MS)
            call.out[begin:end] = -call["self"][begin:end] + self.wrong.get(name, 0.0)

        return Axis(name, 64, run)

    def operator(self) -> Any:
        device = self

        class Timed:
            _schema, overloadpacket, tags = NEG._schema, NEG.overloadpacket, NEG.tags

            def __call__(this, /, **values: Any) -> Any:  # noqa: N805 (an operator has a self)
                device.whole += 1
                device.clock.advance(64 * MS)
                return NEG(**values)

            def __str__(self) -> str:
                return str(NEG)

        return Timed()

    def profile(self, bound_ms: int, **more: Any) -> Any:
        values = {"self": torch.rand(64, 3)}
        settings = Settings(turnaround_ns=bound_ms * MS, patience_ns=10**12, **more)
        return profile(self.operator(), values, CPU, settings, self.clock)


def test_the_cheapest_axis_that_keeps_the_bound_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(monkeypatch, {"dear": 3, "cheap": 1})
    found = device.profile(10)
    (choice,) = found.choices
    assert choice.axis == "cheap"
    assert choice.piece_ns <= 10 * MS
    assert choice.pieces in (8, 9)  # 7 pieces would have one of 10 rows, and 1 ms
    assert found.total_ns == (64 + choice.pieces) * MS
    assert found.whole_ns == 64 * MS
    assert [(cut.pieces, cut.piece_ns) for cut in found.cuts()] == [
        (choice.pieces, choice.piece_ns)
    ]


def test_the_choice_is_warmed_up_10_times_and_timed_5_times(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device = Device(monkeypatch, {"rows": 0})
    found = device.profile(10)
    pieces = found.pieces
    in_full = [begin for _, begin, end in device.pieces if begin == 0 and end == 64 // pieces]
    looks, verified = 1 + 3, 1
    assert len(in_full) == 10 + 5 + looks + verified
    assert device.whole == 1 + 2 + 10 + 5  # once to compare with, twice to see that it is long


def test_what_is_not_the_same_bit_for_bit_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(monkeypatch, {"dear": 3, "cheap": 1})
    device.wrong = {"cheap": 0.25}
    found = device.profile(10)
    assert [choice.axis for choice in found.choices] == ["dear"]
    assert found.inexact == {"output, cheap": 0.25}
    assert found.difference == 0.0


def test_on_request_it_is_and_the_difference_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(monkeypatch, {"dear": 3, "cheap": 1})
    device.wrong = {"cheap": 0.25}
    found = device.profile(10, exact=False)
    assert [choice.axis for choice in found.choices] == ["cheap"]
    assert found.difference == 0.25


def test_where_nothing_is_the_same_it_runs_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(monkeypatch, {"rows": 1})
    device.wrong = {"rows": 0.5}
    found = device.profile(10)
    assert found.pieces == 1
    assert found.cuts() == ()
    assert "output, rows (largest difference 5.0e-01)" in found.reason


def test_a_bound_that_no_piece_keeps_gets_the_shortest_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device = Device(monkeypatch, {"rows": 4})
    found = device.profile(2)
    assert found.pieces == 64
    assert not found.keeps_bound
    assert "5.00 ms" in found.reason


def test_a_call_within_the_bound_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Device(monkeypatch, {"rows": 1}).profile(200)
    assert found.pieces == 1
    assert found.reason == ""


def test_other_numbers_of_threads_are_verified_too(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(monkeypatch, {"rows": 1})
    before = torch.get_num_threads()

    def parts(call: Call) -> list[Part]:
        device.wrong = {"rows": 0.5 if torch.get_num_threads() == before + 1 else 0.0}
        return device.parts(call)

    monkeypatch.setattr("remora.share.slicing.rehearsal.parts", parts)
    assert device.profile(10).pieces > 1
    assert device.profile(10, threads=(before + 1,)).pieces == 1
    assert torch.get_num_threads() == before


def test_random_numbers_of_the_job_are_not_used_up() -> None:
    operator = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
    query = torch.rand(1, 1, 8, 8)
    torch.manual_seed(3)
    wanted = torch.rand(1)
    torch.manual_seed(3)
    Slicing().profile(operator, bound(operator, [query, query, query], {}))
    assert torch.equal(torch.rand(1), wanted)


def test_a_call_that_cannot_be_measured_runs_whole_and_is_said_once() -> None:
    said: list[str] = []
    slicing = Slicing(report=said.append)
    mm = torch.ops.aten.mm.default
    for _ in range(2):
        assert slicing.pieces(mm, [torch.rand(64, 64), torch.rand(50, 50)], {}) is None
    assert len(said) == 1
    assert "could not be measured" in said[0]


def test_an_argument_that_is_written_to_twice_is_left_to_torch() -> None:
    add = torch.ops.aten.add_.Tensor
    slicing = Slicing(Settings(turnaround_ns=1000, warm_ups=0, timed=2))
    whole = torch.rand(1 << 20)
    assert slicing.pieces(add, [whole, torch.rand(1 << 20)], {}) is not None
    assert slicing.pieces(add, [whole, whole], {}) is None


def test_what_is_asked_for_must_make_sense() -> None:
    with pytest.raises(BadValue, match="no piece is that short"):
        Settings(turnaround_ns=0)
    with pytest.raises(BadValue, match="1 or more"):
        Settings(threads=(0,))
    call = Call(torch.ops.aten.bernoulli_.float, {}, ())
    with pytest.raises(UnknownName, match="operator to cut"):
        registry.parts(call)
    with pytest.raises(BadValue, match="choose 1 to 4"):
        Axis("rows", 64, lambda begin, end: None, 16).ranges(5)


def test_ranges_begin_at_grains_and_the_last_takes_what_is_left() -> None:
    axis = Axis("rows", 70, lambda begin, end: None, 16)
    assert axis.most == 4
    assert list(axis.ranges(4)) == [(0, 16), (16, 32), (32, 48), (48, 70)]
    assert list(axis.ranges(3)) == [(0, 16), (16, 32), (32, 70)]
    assert list(Axis("rows", 5, lambda begin, end: None, 16).ranges(1)) == [(0, 5)]
