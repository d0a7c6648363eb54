"""What every relation keeps to: a run never violates what was learned from it alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.check.any_story import any_run
from tests.check.stories import checked, learned

from remora.check.invariants import Header, Invariants, read_invariants, write_invariants
from remora.check.relations.registry import RELATIONS

SEEDS = st.integers(0, 1 << 32)


@pytest.mark.slow
@settings(max_examples=500, deadline=None)
@given(seed=SEEDS, fewest=st.integers(1, 3))
def test_a_run_never_violates_what_was_learned_from_it(seed: int, fewest: int) -> None:
    run = any_run(seed)
    invariants = learned(run, fewest=fewest)

    assert [(one.invariant.words(), one.seen) for one in checked(invariants, run)] == []


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(seeds=st.lists(SEEDS, min_size=2, max_size=3))
def test_nor_does_one_of_several_runs(seeds: list[int]) -> None:
    runs = [any_run(seed) for seed in seeds]
    invariants = learned(*runs, fewest=1)

    for run in runs:
        assert [one.invariant.words() for one in checked(invariants, run)] == []


@pytest.mark.parametrize("seed", range(5))
def test_what_was_learned_is_read_from_its_file_as_it_was(tmp_path: Path, seed: int) -> None:
    run, path = any_run(seed), tmp_path / "run.inv"
    invariants = learned(run, fewest=1)

    write_invariants(path, Invariants(header=Header(), invariants=tuple(invariants)))
    again = list(read_invariants(path).invariants)

    assert [one.name for one in again] == [one.name for one in invariants]
    assert checked(again, run) == []


@settings(max_examples=100, deadline=None)
@given(seed=SEEDS)
def test_nothing_is_learned_of_an_identity(seed: int) -> None:
    for one in learned(any_run(seed), fewest=1):
        assert not any(name.endswith(".identity") for name in one.when.properties())
        assert not any(isinstance(value, tuple) for value in getattr(one.claim, "values", ()))


def test_the_runs_made_up_here_say_something_of_many_relations() -> None:
    found = {one.relation for seed in range(60) for one in learned(any_run(seed), fewest=1)}

    elsewhere = {"threshold", "changes", "consistent", "agreement"}  # of variables, of ranks
    assert found >= {relation.name for relation in RELATIONS} - elsewhere
