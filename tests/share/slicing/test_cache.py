"""Profiles on disk: found again, never wrong, never in the way."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remora.core.errors import BadValue
from remora.share.slicing.cache import Cache
from remora.share.slicing.key import Key
from remora.share.slicing.profile import Choice, Profile
from remora.share.slicing.profiler import Settings
from remora.share.slicing.slicing import Slicing

KEY = Key("aten.mm.default", "((2, 3), (3, 4))", "cpu x AVX2", "2.13.0", (1,), 1_000_000, True)
PROFILE = Profile(5_000_000, 1_000_000, (), (Choice("rows", 8, 900_000, 5_100_000),))


def other(**changes: object) -> Key:
    return msgspec.structs.replace(KEY, **changes)


def test_what_is_kept_is_found_by_the_next_process(tmp_path: Path) -> None:
    Cache(tmp_path / "new").keep(KEY, PROFILE)
    assert Cache(tmp_path / "new").find(KEY) == PROFILE
    assert [path.suffix for path in (tmp_path / "new").iterdir()] == [".json"]


@pytest.mark.parametrize(
    "key",
    [
        other(operator="aten.bmm.default"), other(arguments="((2, 3), (3, 5))"),
        other(device="cpu y"), other(torch="2.14.0"), other(threads=(2,)), other(threads=(1, 2)),
        other(turnaround_ns=2_000_000), other(exact=False),
    ],
)  # fmt: skip
def test_nothing_is_found_for_another_call(tmp_path: Path, key: Key) -> None:
    cache = Cache(tmp_path)
    cache.keep(KEY, PROFILE)
    assert cache.find(key) is None


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_is_passed_over_said_once_and_replaced(
    tmp_path: Path, data: st.DataObject
) -> None:
    said: list[str] = []
    cache = Cache(tmp_path, report=said.append)
    cache.keep(KEY, PROFILE)
    [path] = tmp_path.iterdir()
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    damage = data.draw(st.sampled_from(["cut", "byte", "other"]))
    spoilt = {
        "cut": whole[:at],
        "byte": whole[:at] + b"\xff" + whole[at + 1 :],
        "other": data.draw(st.binary(max_size=50)),
    }[damage]
    path.write_bytes(spoilt)
    assert cache.find(KEY) is None
    assert cache.find(KEY) is None
    assert len(said) == 1
    assert str(path) in said[0]
    cache.keep(KEY, PROFILE)
    assert cache.find(KEY) == PROFILE


def test_a_file_that_belongs_to_another_call_is_passed_over(tmp_path: Path) -> None:
    said: list[str] = []
    cache = Cache(tmp_path, report=said.append)
    cache.keep(KEY, PROFILE)
    [path] = tmp_path.iterdir()
    foreign = other(operator="aten.bmm.default")
    cache.keep(foreign, PROFILE)
    [second] = [each for each in tmp_path.iterdir() if each != path]
    second.write_bytes(path.read_bytes())
    assert cache.find(foreign) is None
    assert "another call" in said[0]


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    said: list[str] = []
    cache = Cache(tmp_path, report=said.append)
    cache.keep(KEY, PROFILE)
    [path] = tmp_path.iterdir()
    os.truncate(path, 1 << 33)
    assert cache.find(KEY) is None
    assert "too large" in said[0]


def test_the_oldest_go(tmp_path: Path) -> None:
    cache = Cache(tmp_path, most=70)
    for number in range(200):
        cache.keep(other(arguments=str(number)), PROFILE)
    assert len(list(tmp_path.iterdir())) <= 70 + 64
    assert cache.find(other(arguments="199")) == PROFILE


def test_a_folder_that_cannot_be_written_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said: list[str] = []
    cache = Cache(tmp_path / "file" / "folder", report=said.append)
    cache.keep(KEY, PROFILE)
    cache.keep(KEY, PROFILE)
    assert cache.find(KEY) is None
    assert len([line for line in said if "not kept" in line]) == 1


def test_keeping_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadValue, match="1 or more"):
        Cache(tmp_path, most=0)


def test_a_second_job_measures_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = Settings(turnaround_ns=50_000, warm_ups=0, timed=2)
    left, right = torch.rand(256, 256), torch.rand(256, 256)
    mm = torch.ops.aten.mm.default
    first = Slicing(wanted, Cache(tmp_path)).pieces(mm, [left, right], {})
    assert first is not None

    def measured(*args: object) -> Profile:
        raise AssertionError("measured again")

    monkeypatch.setattr("remora.share.slicing.slicing.profile", measured)
    again = Slicing(wanted, Cache(tmp_path)).pieces(mm, [left, right], {})
    assert again is not None
    assert again.profile == first.profile
    again.run(0, len(again))
    assert torch.equal(again.result, left @ right)
