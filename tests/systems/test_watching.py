"""The systems that watch: what they check, record and leave behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tests.systems.builders import TinySession

from remora.check.invariants import read_invariants
from remora.core.errors import BadValue, InvariantsUnusable, Unavailable
from remora.systems import invariant_sets, patch_everything, registry
from remora.systems.contract import Ride
from remora.workloads.contract import Outcome

STEPS = 10
"""Learned from, here."""
DEPLOYED_LINE = {
    "text_description": "step contains _init_group",
    "relation": "APIContainRelation",
    "params": [
        {"param_type": "APIParam", "api_full_name": "torch.optim.sgd.SGD.step"},
        {"param_type": "APIParam", "api_full_name": "torch.optim.sgd.SGD._init_group"},
    ],
    "precondition": {
        "parent_func_call_pre": {
            "inverted": False,
            "preconditions": [{"clauses": "Unconditional"}],
        }
    },
    "num_positive_examples": None,
    "num_negative_examples": None,
}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    kept = tmp_path_factory.mktemp("kept")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(invariant_sets, "LEARNING_STEPS", STEPS)
        registry.create("check", {"invariants": "learned"}).prepare(TinySession, kept)
    return kept


def _ride(kept: Path, tmp_path: Path, invariants: str, session: TinySession) -> Ride:
    system = registry.create("check", {"invariants": invariants})
    return system.prepared(kept).ride(session, tmp_path)


def _run(ride: Ride, steps: int = 5) -> dict[str, float]:
    try:
        for _ in range(steps):
            ride.step()
        return dict(ride.counts())
    finally:
        ride.close()


def test_all_that_is_learned_is_triggered_and_holds_on_another_seed(
    kept: Path, tmp_path: Path
) -> None:
    counts = _run(_ride(kept, tmp_path, "learned", TinySession(seed=7)))
    learned = read_invariants(kept / "learned.inv")
    assert learned.header.sources[0].steps == STEPS
    assert counts["invariants"] == len(learned.invariants) == counts["triggered"] > 10
    assert counts["violated"] == 0
    assert counts["judged_per_step"] >= counts["triggered"]


def test_of_variables_is_what_names_variables(kept: Path) -> None:
    everything = {one.name for one in read_invariants(kept / "learned.inv").invariants}
    variables = read_invariants(kept / "variables.inv").invariants
    assert {one.name for one in variables} < everything
    relations = {one.relation for one in variables}
    assert "changes" in relations
    assert not relations & {"cover", "lead", "contains", "constant output"}


def test_a_step_without_zero_grad_is_counted_as_violated(kept: Path, tmp_path: Path) -> None:
    class Forgetful(TinySession):
        def step(self) -> Outcome:
            loss = torch.nn.functional.mse_loss(self.model(self.inputs), self.targets)
            loss.backward()
            self.optimizer.step()
            return Outcome(loss)

    assert _run(_ride(kept, tmp_path, "learned", Forgetful()))["violated"] > 0


def test_without_invariants_nothing_is_judged(tmp_path: Path) -> None:
    counts = _run(registry.create("check").ride(TinySession(), tmp_path))
    assert set(counts.values()) == {0.0}
    assert not list(tmp_path.iterdir())


def test_what_has_to_be_learned_first_is_refused(tmp_path: Path) -> None:
    system = registry.create("check", {"invariants": "learned"})
    with pytest.raises(BadValue, match="name a file, or one of: deployed-100, none"):
        system.ride(TinySession(), tmp_path)
    system = registry.create("check", {"invariants": "lerned"})
    with pytest.raises(InvariantsUnusable, match="lerned cannot be read"):
        system.ride(TinySession(), tmp_path)


def test_the_deployed_invariants_are_read_where_they_lie(tmp_path: Path) -> None:
    file = tmp_path / "deployed.json"
    file.write_text(json.dumps(DEPLOYED_LINE) + "\n")
    system = registry.create("check", {"invariants": "deployed-100", "deployed": str(file)})
    assert registry.missing(system) is None
    (tmp_path / "ride").mkdir()
    counts = _run(system.ride(TinySession(), tmp_path / "ride"))
    assert counts == {"invariants": 1, "triggered": 1, "violated": 0, "judged_per_step": 1}


def test_without_them_the_arm_is_unavailable_and_says_what_to_do(tmp_path: Path) -> None:
    options = {"invariants": "deployed-100", "deployed": str(tmp_path / "none.json")}
    system = registry.create("check", options)
    reason = registry.missing(system)
    assert reason is not None
    assert "none.json; name TrainCheck's file with: --set deployed=FILE" in reason
    with pytest.raises(Unavailable, match="check cannot run: there is no file"):
        system.ride(TinySession(), tmp_path)


def test_by_default_they_lie_beside_the_checkout() -> None:
    expected = Path(__file__).resolve().parents[3] / "shared/data/traincheck"
    assert invariant_sets.path_of_deployed("").parent == expected


def test_a_failing_service_does_not_pass_for_a_cheap_one(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from remora.check.checker import Checker

    ride = _ride(kept, tmp_path, "learned", TinySession())
    monkeypatch.setattr(Checker, "step_ended", lambda self, step: 1 // 0)
    try:
        with pytest.raises(ZeroDivisionError):
            ride.step()
    finally:
        ride.close()


def test_everything_patched_is_recorded_before_and_after_and_put_back(tmp_path: Path) -> None:
    session = TinySession()
    before = {(id(s.owner), s.attribute): s.function for s in patch_everything.sites()}
    ride = registry.create("patch-everything").ride(session, tmp_path)
    counts = _run(ride, steps=2)
    after = {(id(s.owner), s.attribute): s.function for s in patch_everything.sites()}
    assert all(after[place] is function for place, function in before.items())
    records = [json.loads(line) for line in (tmp_path / "trace.jsonl").read_text().splitlines()]
    assert counts["records_per_step"] * 2 == len(records)
    linear = [one for one in records if one[1] == "torch.nn.functional.linear"]
    assert [one[0] for one in linear] == ["call", "return"] * 4
    weight = linear[0][2][0][1]
    assert weight["shape"] == "torch.Size([16, 8])"
    assert len(weight["digest"]) == 16
    steps = [one for one in records if one[1].endswith("SGD.step")]
    assert steps[0][2][0][0]["type"] == "<torch.optim.sgd.SGD>"


def test_a_module_made_in_a_step_is_recorded_before_it_is_whole(tmp_path: Path) -> None:
    class Maker(TinySession):
        def step(self) -> Outcome:
            torch.nn.MSELoss()
            return super().step()

    ride = registry.create("patch-everything").ride(Maker(), tmp_path)
    assert _run(ride, steps=1)["records_per_step"] > 0
    records = [json.loads(line) for line in (tmp_path / "trace.jsonl").read_text().splitlines()]
    made = next(one for one in records if one[1].endswith("loss._Loss.__init__"))
    assert made[2][0] == [{"type": "<torch.nn.modules.loss.MSELoss>"}]


def test_the_published_tool_asks_for_itself() -> None:
    missing = registry.missing(registry.create("traincheck", {"full": True}))
    assert missing in (None, "traincheck needs traincheck; install with: pip install traincheck")


def test_the_published_tool_refuses_an_impossible_interval(tmp_path: Path) -> None:
    with pytest.raises(BadValue, match="one_in=0 is not a number of steps"):
        registry.create("traincheck", {"one_in": 0}).ride(TinySession(), tmp_path)
