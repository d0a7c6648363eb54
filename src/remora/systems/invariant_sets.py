"""Which invariants the check systems check: TrainCheck's deployed ones, learned ones, or none.

The deployed hundred are TrainCheck's (OSDI'25, overhead experiment). They are not part of Remora:
the file is read from where it lies.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import remora
from remora.systems.contract import Another

if TYPE_CHECKING:
    from remora.check.invariants import Invariant

DEPLOYED, LEARNED, VARIABLES, NONE = "deployed-100", "learned", "variables", "none"
SETS = (DEPLOYED, LEARNED, VARIABLES, NONE)
LEARNING_STEPS = 60
"""As TrainCheck's invariants were learned from traces of so many iterations."""
_BESIDE_A_CHECKOUT = Path("shared/data/traincheck/deployed_100_invariants.json")


def path_of_deployed(given: str) -> Path:
    """The file with the deployed invariants: the one ``given``, or where it lies by default."""
    return Path(given) if given else Path(remora.__file__).resolve().parents[3] / _BESIDE_A_CHECKOUT


def missing_deployed(given: str) -> str | None:
    """Why the deployed invariants cannot be checked, with the remedy; None when they can."""
    path = path_of_deployed(given)
    if path.is_file():
        return None
    return f"there is no file {path}; name TrainCheck's file with: --set deployed=FILE"


def learn(another: Another, kept: Path) -> None:
    """Learn from another session of the workload; write all, and those about variables alone."""
    from remora.check.invariants import Invariants, read_invariants, write_invariants
    from remora.check.services import LearnService
    from remora.tap.job import Job

    everything, session = kept / f"{LEARNED}.inv", another(1)
    job = Job(strict=True)
    job.attach(LearnService(everything))
    try:
        for _ in range(LEARNING_STEPS):
            session.step()
        job.finish(0)
    finally:
        job.detach_all()
        session.close()
    learned = read_invariants(everything)
    about = tuple(one for one in learned.invariants if _is_about_variables(one))
    write_invariants(kept / f"{VARIABLES}.inv", Invariants(header=learned.header, invariants=about))


def _is_about_variables(invariant: Invariant) -> bool:
    from remora.check.checker import Checker

    return Checker([invariant], lambda finding: None).looks_at_variables


@contextmanager
def nothing_in(directory: Path) -> Iterator[Path]:
    """A file of no invariants, there while it is read."""
    from remora.check.invariants import Header, Invariants, write_invariants

    path = directory / f"{NONE}.inv"
    write_invariants(path, Invariants(header=Header(), invariants=()))
    try:
        yield path
    finally:
        path.unlink()
