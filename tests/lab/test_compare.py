"""The regression gate: same, better, worse or undecided, and the exit codes that say so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from tests.lab.builders import make_plan, make_trial

from remora.core.errors import BadValue, EnvironmentsDiffer
from remora.lab.compare import compare_folders
from remora.lab.environment import capture
from remora.lab.folder import Folder
from remora.lab.results import EnvironmentPair

Make = Callable[..., Folder]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def build(name: str, idle_ms: float = 50.0, noise: float = 0.005, **plan: object) -> Folder:
        made = make_plan(systems=("idle",), blocks=10)
        folder = Folder.create(tmp_path / name, msgspec.structs.replace(made, **plan))
        for spec in made.trials:
            scale = idle_ms if spec.arm.label == "idle" else 50.0
            renamed = msgspec.structs.replace(spec, id=f"{spec.id}-{name}")
            trial = msgspec.structs.replace(make_trial(renamed, scale, noise=noise), spec=spec)
            folder.write_trial(trial)
        folder.write_environment(EnvironmentPair(before=capture(1)))
        return folder

    return build


@pytest.mark.parametrize(
    ("idle_ms", "noise", "change", "code"),
    [
        (50.0, 0.005, "same", 0),
        (40.0, 0.005, "better", 0),
        (60.0, 0.005, "worse", 1),
        (52.0, 0.2, "undecided", 3),
    ],
)
def test_changes_and_their_exit_codes(
    make: Make, idle_ms: float, noise: float, change: str, code: int
) -> None:
    found = compare_folders(make("a", noise=noise), make("b", idle_ms, noise), margin=0.05)
    assert [row.arm for row in found.rows] == ["vgg16-train/idle"]
    assert (found.change, found.exit_code) == (change, code)


def test_an_arm_that_broke_is_undecided_and_one_not_planned_is_named(make: Make) -> None:
    a, b = make("a"), make("b")
    for path in b.trials_path.glob("*idle*"):
        path.unlink()
    found = compare_folders(a, b, margin=0.05)
    assert [(row.arm, row.change) for row in found.rows] == [("vgg16-train/idle", "undecided")]
    assert found.exit_code == 3


def test_other_settings_are_refused(make: Make) -> None:
    a = make("a", settings={"idle": {"every": 5}})
    b = make("b", settings={"idle": {"every": 50}})
    with pytest.raises(BadValue, match="the settings of idle differ"):
        compare_folders(a, b, margin=0.05)


def test_a_change_below_the_noise_floor_is_not_claimed(make: Make) -> None:
    found = compare_folders(make("a", noise=0.15), make("b", 60.0, noise=0.15), margin=0.05)
    assert found.change == "undecided"


def test_other_conditions_are_refused_unless_forced(make: Make) -> None:
    a, b = make("a"), make("b")
    pair = b.environment()
    other = msgspec.structs.replace(pair.before, versions=pair.before.versions | {"torch": "1.0"})
    b.write_environment(msgspec.structs.replace(pair, before=other))
    with pytest.raises(EnvironmentsDiffer, match=r"versions torch: .* against 1\.0.*--force"):
        compare_folders(a, b, margin=0.05)
    assert compare_folders(a, b, margin=0.05, force=True).environments


@pytest.mark.parametrize("what", ["experiment", "scale"])
def test_unlike_experiments_are_refused(make: Make, what: str) -> None:
    with pytest.raises(BadValue, match=f"the {what}s differ"):
        compare_folders(make("a"), make("b", **{what: "other"}), margin=0.05)
