"""The conductor: order, durability, budget, failures, resuming. Proven by a fake executor's log."""

from __future__ import annotations

import signal
from collections.abc import Callable

import msgspec
import pytest
from tests.lab.builders import Rig, make_plan, make_trial, raising

from remora.core.errors import ResultsUnusable, UnknownName
from remora.lab import environment
from remora.lab.events import GivenUp, PilotRead, Planned, Stopped, TrialEnded, TrialStarted
from remora.lab.executors.contract import Ended
from remora.lab.folder import Folder
from remora.lab.planning import with_blocks
from remora.lab.worker import Job

Make = Callable[..., Rig]


def test_trials_run_in_the_planned_order_and_each_is_on_disk_before_the_next(rig: Make) -> None:
    made = rig()
    on_disk: list[int] = []

    def counting(job: Job) -> Ended:
        on_disk.append(len(made.folder.trials()[0]))
        trial = make_trial(job.spec)
        made.folder.write_trial(trial)
        return Ended(0)

    made.executor.behaviours = dict.fromkeys(("native", "native (again)", "torch-save"), counting)
    made.conductor().run()
    assert made.executor.log == [spec.id for spec in made.plan.trials]
    assert on_disk == list(range(len(made.plan.trials)))


def test_events_tell_the_story(rig: Make) -> None:
    made = rig(make_plan(blocks=1))
    made.conductor().run()
    kinds = [type(event) for event in made.events]
    assert kinds == [Planned, *[TrialStarted, TrialEnded] * 3, Stopped]


def test_a_finished_folder_has_nothing_left_to_run(rig: Make) -> None:
    made = rig()
    made.conductor().run()
    made.executor.log.clear()
    made.conductor().run()
    assert made.executor.log == []


def test_an_interrupted_run_goes_on_where_it_stopped(rig: Make) -> None:
    made = rig()
    planned = [spec.id for spec in made.plan.trials]

    def interrupted(job: Job) -> Ended:
        if len(made.executor.log) == 5:
            raise KeyboardInterrupt
        made.folder.write_trial(make_trial(job.spec))
        return Ended(0)

    made.executor.behaviours = dict.fromkeys(
        ("native", "native (again)", "torch-save"), interrupted
    )
    with pytest.raises(KeyboardInterrupt):
        made.conductor().run()
    assert len(made.folder.trials()[0]) == 4
    assert not made.folder.scratch_path.exists()
    made.executor.behaviours = {}
    made.conductor().run()
    assert made.executor.log == planned[:5] + planned[4:]
    assert made.folder.environment().after is not None


def test_a_budget_is_kept(rig: Make) -> None:
    made = rig(make_plan(blocks=50), seconds=2.0)
    plan = made.conductor().run(budget_s=20)
    assert made.executor.clock.now_ns <= 20e9
    assert plan.blocks == 3  # 3 arms × 2 s: three blocks fit into 20 s with the margin
    assert made.folder.plan().blocks == 3
    assert made.events[-1] == Stopped("the time budget is spent")


def test_a_trial_that_the_budget_cut_short_says_nothing_of_its_arm(rig: Make) -> None:
    made = rig(make_plan(blocks=2), seconds=2.0)
    made.executor.behaviours = {"torch-save": lambda job: Ended(-9, timed_out=True)}
    plan = made.conductor().run(budget_s=30)
    assert all(trial.failure is None for trial in made.folder.trials()[0])
    assert made.events[-1] == Stopped("the time budget is spent")
    assert plan.blocks >= 1
    made.executor.behaviours = {}
    made.conductor().run()
    assert {t.spec.id for t in made.folder.trials()[0]} == {s.id for s in plan.trials}


def test_a_run_that_a_budget_stopped_can_be_continued(rig: Make) -> None:
    made = rig(make_plan(blocks=50), seconds=2.0)
    stopped = made.conductor().run(budget_s=20)
    made.folder.write_plan(with_blocks(stopped, 5))
    assert made.conductor().run().blocks == 5
    assert len(made.folder.trials()[0]) == 15


def test_a_trial_may_not_outlast_the_budget(rig: Make) -> None:
    made = rig(make_plan(blocks=2), seconds=2.0)
    made.conductor().run(budget_s=11)
    assert made.executor.timeouts[:3] == [11, 9, 7]


def test_failing_arms_are_recorded_given_up_and_spoil_nothing(rig: Make) -> None:
    made = rig(make_plan(systems=("torch-save", "idle"), blocks=4))
    made.executor.behaviours = {"torch-save": raising}
    made.conductor().run()
    trials, _ = made.folder.trials()
    failed = [trial for trial in trials if trial.failure]
    assert [trial.spec.arm.label for trial in failed] == ["torch-save"] * 2
    assert GivenUp("vgg16-train/torch-save", 2) in made.events
    assert sum(trial.spec.arm.label == "idle" for trial in trials) == 4


def test_a_run_in_which_nothing_works_stops_after_one_block(rig: Make) -> None:
    made = rig(make_plan(blocks=4))
    made.executor.behaviours = dict.fromkeys(("native", "native (again)", "torch-save"), raising)
    made.conductor().run()
    assert len(made.executor.log) == 3
    assert made.events[-1] == Stopped("no arm worked in the first block")


def test_only_reruns_the_failed_trials_of_that_arm(rig: Make) -> None:
    made = rig(make_plan(systems=("torch-save", "idle"), blocks=3))
    made.executor.behaviours = {"torch-save": raising, "idle": raising}
    made.conductor().run()
    made.executor.behaviours = {}
    made.executor.log.clear()
    made.conductor().run(only=["vgg16-train/torch-save"])
    assert len(made.executor.log) == 3
    assert all("torch-save" in each for each in made.executor.log)
    by_label = {t.spec.arm.label: t.failure for t in made.folder.trials()[0]}
    assert by_label["torch-save"] is None
    assert by_label["idle"] is not None


def test_only_refuses_an_unknown_arm(rig: Make) -> None:
    with pytest.raises(UnknownName, match=r"did you mean 'vgg16-train/torch-save'"):
        rig().conductor().run(only=["vgg16-train/torch-sav"])


@pytest.mark.parametrize(
    ("ended", "kind", "words"),
    [
        (Ended(-signal.SIGKILL, timed_out=True), "timed-out", "did not end within 60 s"),
        (Ended(-signal.SIGSEGV), "killed", "died of SIGSEGV"),
        (Ended(3), "killed", "exited with 3 and wrote no result"),
    ],
)
def test_a_process_that_leaves_no_result_is_a_failed_trial(
    rig: Make, ended: Ended, kind: str, words: str
) -> None:
    made = rig(make_plan(blocks=1))
    made.executor.behaviours = {"torch-save": lambda job: ended}
    made.conductor().run()
    failure = next(t.failure for t in made.folder.trials()[0] if t.failure)
    assert failure.kind == kind
    assert words in failure.message
    assert failure.log.startswith("logs/b00-")


def test_unavailable_arms_are_recorded_and_never_started(rig: Make) -> None:
    made = rig(make_plan(blocks=2))
    reason = "torch-save needs x; install with: pip install x"
    made.conductor(unavailable={"vgg16-train/torch-save": reason}).run()
    failures = [t.failure for t in made.folder.trials()[0] if t.failure]
    assert [(f.kind, f.message) for f in failures] == [("unavailable", reason)] * 2
    assert not any("torch-save" in each for each in made.executor.log)


def test_the_pilot_states_what_can_be_detected(rig: Make) -> None:
    made = rig(make_plan(blocks=6))
    plan = made.conductor(replan=True).run()
    assert plan.pilot is not None
    assert plan.pilot.blocks == 3
    assert 0 < plan.pilot.mde < 1
    assert sum(isinstance(event, PilotRead) for event in made.events) == 1


def test_a_wanted_effect_sets_the_number_of_blocks_within_the_budget(rig: Make) -> None:
    plan = msgspec.structs.replace(make_plan(blocks=4), wanted_mde=0.05, margin=0.01)
    made = rig(plan)
    revised = made.conductor(replan=True).run(budget_s=1000)
    assert revised.pilot is not None
    assert revised.pilot.blocks_for_wanted is not None
    assert revised.blocks == min(revised.pilot.blocks_for_wanted, 166)
    assert revised.blocks > 4
    assert len(made.folder.trials()[0]) == 3 * revised.blocks


def test_an_effect_out_of_reach_leaves_the_plan_as_it_was(rig: Make) -> None:
    plan = msgspec.structs.replace(make_plan(blocks=4), wanted_mde=1e-5, margin=1e-6)
    revised = rig(plan).conductor(replan=True).run()
    assert revised.pilot is not None
    assert revised.pilot.blocks_for_wanted is None
    assert revised.blocks == 4


def test_the_users_own_limit_on_blocks_holds(rig: Make) -> None:
    plan = make_plan(blocks=4)
    wanted = msgspec.structs.replace(plan, wanted_mde=0.02, margin=0.01, most_blocks=4)
    assert rig(wanted).conductor(replan=True).run().blocks == 4


def test_a_kernel_that_kills_for_memory_is_told(rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    kills = iter(range(100))
    monkeypatch.setattr(environment, "oom_kills", lambda: next(kills))
    made = rig(make_plan(blocks=1))
    made.executor.behaviours = {"torch-save": lambda job: Ended(-signal.SIGKILL)}
    made.conductor().run()
    (failure,) = [t.failure for t in made.folder.trials()[0] if t.failure]
    assert failure.kind == "out-of-memory"
    assert "use a smaller --scale" in failure.message


def test_two_writers_are_refused(rig: Make) -> None:
    made = rig()
    with made.folder.locked(), pytest.raises(ResultsUnusable, match="another process is writing"):
        made.conductor().run()


def test_going_on_under_other_conditions_is_refused(rig: Make) -> None:
    made = rig(make_plan(blocks=1))
    made.conductor().run()
    pair = made.folder.environment()
    other = msgspec.structs.replace(pair.before, versions=pair.before.versions | {"torch": "1.0"})
    Folder(made.path).write_environment(msgspec.structs.replace(pair, before=other))
    with pytest.raises(ResultsUnusable, match=r"versions torch: 1\.0 against"):
        made.conductor().run()
