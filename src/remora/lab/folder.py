"""A results folder: the only place where an experiment's files are written and read."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from remora.core.errors import ResultsUnusable
from remora.core.files import write_atomically
from remora.lab.results import RESULTS_VERSION, EnvironmentPair, Plan, Trial

T = TypeVar("T")


class _Versioned(msgspec.Struct):
    version: int


class Folder:
    """Files of one experiment under ``path``; the layout is in :mod:`remora.lab.results`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.trials_path = path / "trials"
        self.logs_path = path / "logs"
        self.scratch_path = path / "scratch"
        self.prepared_path = path / "prepared"

    # ------------------------------------------------------------ making and opening

    @classmethod
    def create(cls, path: Path, plan: Plan) -> Folder:
        """Make the folder and write the plan into it.

        Raises:
            ResultsUnusable: ``path`` holds something already, or cannot be written.
        """
        if (path / "plan.json").exists():
            raise ResultsUnusable(
                f"{path} already holds results; continue them with --resume {path}, "
                "or choose another --out"
            )
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise ResultsUnusable(f"{path} exists and is not empty; choose another --out")
        folder = cls(path)
        try:
            for each in (folder.trials_path, folder.logs_path):
                each.mkdir(parents=True, exist_ok=True)
            folder.write_plan(plan)
        except (OSError, ResultsUnusable) as error:
            reason = getattr(error, "strerror", None) or error
            raise ResultsUnusable(
                f"cannot write results to {path} ({reason}); choose another --out"
            ) from error
        return folder

    @classmethod
    def open(cls, path: Path) -> Folder:
        """An existing results folder.

        Raises:
            ResultsUnusable: it is not there or not a results folder.
        """
        if not path.is_dir():
            raise ResultsUnusable(f"there is no results folder {path}; give one made by a bench")
        if not (path / "plan.json").is_file():
            raise ResultsUnusable(f"{path} is not a results folder: it has no plan.json")
        return cls(path)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for writing; the lock dies with its holder.

        Raises:
            ResultsUnusable: another process is writing to it, or it cannot be written.
        """
        try:
            descriptor = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise ResultsUnusable(f"cannot write to {self.path} ({error.strerror})") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError:
            raise ResultsUnusable(
                f"another process is writing to {self.path}; wait for it, or choose another --out"
            ) from None
        finally:
            os.close(descriptor)

    # ------------------------------------------------------------ the plan and the machine

    def write_plan(self, plan: Plan) -> None:
        self._write(self.path / "plan.json", plan)

    def plan(self) -> Plan:
        return self._read(self.path / "plan.json", Plan)

    def write_environment(self, pair: EnvironmentPair) -> None:
        self._write(self.path / "environment.json", pair)

    def has_environment(self) -> bool:
        return (self.path / "environment.json").exists()

    def environment(self) -> EnvironmentPair:
        return self._read(self.path / "environment.json", EnvironmentPair)

    # ------------------------------------------------------------ trials

    def trial_path(self, trial_id: str) -> Path:
        return self.trials_path / f"{trial_id}.json"

    def log_name(self, trial_id: str) -> str:
        return f"logs/{trial_id}.log"

    def write_trial(self, trial: Trial) -> None:
        """Durable before this returns: nothing measured is lost to a crash after it."""
        self._write(self.trial_path(trial.spec.id), trial)

    def discard_trial(self, trial_id: str) -> None:
        """Forget a trial, as if it had never run."""
        self.trial_path(trial_id).unlink(missing_ok=True)

    def trial(self, trial_id: str) -> Trial:
        return self._read(self.trial_path(trial_id), Trial)

    def trials(self) -> tuple[list[Trial], list[str]]:
        """Every readable trial in running order, and a warning for each that is not."""
        trials, warnings = [], []
        for path in sorted(self.trials_path.glob("[!.]*.json")):
            try:
                trials.append(self._read(path, Trial))
            except ResultsUnusable as error:
                warnings.append(str(error))
        return sorted(trials, key=lambda trial: (trial.spec.block, trial.spec.position)), warnings

    # ------------------------------------------------------------ bytes

    def _write(self, path: Path, data: Plan | EnvironmentPair | Trial) -> None:
        try:
            write_atomically(path, msgspec.json.encode(data))
        except OSError as error:
            raise ResultsUnusable(
                f"cannot write {path} ({error.strerror}); what is there stays whole: make room or "
                f"make it writable, then go on with --resume {self.path}"
            ) from error

    def _read(self, path: Path, kind: type[T]) -> T:
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise ResultsUnusable(f"cannot read {path} ({error.strerror})") from error
        try:
            version = msgspec.json.decode(raw, type=_Versioned).version
            if version != RESULTS_VERSION:
                raise ResultsUnusable(
                    f"{path} is of results version {version}, this Remora reads version "
                    f"{RESULTS_VERSION}; run the experiment again, or use the Remora that wrote it"
                )
            return msgspec.json.decode(raw, type=kind)
        except msgspec.DecodeError as error:
            raise ResultsUnusable(f"{path} is damaged ({error}); {_mending(path)}") from error


def _mending(path: Path) -> str:
    if path.parent.name == "trials":
        return "delete it and --resume the folder to run that trial again"
    return "it cannot be made again: run the experiment anew"
