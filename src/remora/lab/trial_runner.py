"""One trial from the outside: a process, an empty folder, a result or the reason for none."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from remora.lab import environment, failures, preparing
from remora.lab.executors import Executor
from remora.lab.folder import Folder
from remora.lab.results import Trial, TrialSpec
from remora.lab.worker import Job, failed
from remora.systems import registry as systems


@dataclass(frozen=True)
class TrialRunner:
    """Runs trials into ``folder``; whatever becomes of the process, a :class:`Trial` comes back.

    ``unavailable`` are arms that cannot run here, ``too_large`` those that do not fit, each by name
    with the reason: they are not started.
    """

    folder: Folder
    executor: Executor
    unavailable: Mapping[str, str] = field(default_factory=dict)
    too_large: Mapping[str, str] = field(default_factory=dict)

    def prepare(self, spec: TrialSpec, timeout_s: float) -> Trial | None:
        """Make what the system needs once for the workload, in a process of its own.

        None when it is there; else the trial that failed for the lack of it, stored.
        """
        if spec.arm.name in {*self.unavailable, *self.too_large}:
            return None
        name = systems.create(spec.arm.system, spec.arm.options).preparation()
        if not name or preparing.is_made(self._kept(spec) / name):
            return None
        log_name = self.folder.log_name(f"prepare-{spec.arm.workload}-{name}")
        job = msgspec.structs.replace(self._job(spec), only_prepare=True, log_name=log_name,
                                      log=str(self.folder.path / log_name))  # fmt: skip
        trial = self._run_process(job, timeout_s)
        if preparing.is_made(self._kept(spec) / name):
            return None
        self.folder.write_trial(trial)
        return trial

    def run(self, spec: TrialSpec, timeout_s: float) -> Trial:
        """Run ``spec`` and store its trial, durably."""
        if reason := self.unavailable.get(spec.arm.name):
            trial = failed(spec, "unavailable", reason, "")
        elif reason := self.too_large.get(spec.arm.name):
            trial = failed(spec, "too-large", reason, "")
        else:
            trial = self._run(spec, timeout_s)
        self.folder.write_trial(trial)
        return trial

    def _run(self, spec: TrialSpec, timeout_s: float) -> Trial:
        load, jiffies = os.getloadavg()[0], environment.steal_and_total_jiffies()
        trial = self._run_process(self._job(spec), timeout_s)
        return msgspec.structs.replace(
            trial, load_before=load, steal_share=environment.steal_share_since(jiffies)
        )

    def _job(self, spec: TrialSpec) -> Job:
        log_name = self.folder.log_name(spec.id)
        return Job(
            spec=spec,
            result=str(self.folder.trial_path(spec.id)),
            log=str(self.folder.path / log_name),
            log_name=log_name,
            scratch=str(self.folder.scratch_path / spec.id),
            kept=str(self._kept(spec)),
            only_prepare=False,
            asked_ns=time.perf_counter_ns(),
        )

    def _kept(self, spec: TrialSpec) -> Path:
        return self.folder.prepared_path / spec.arm.workload

    def _run_process(self, job: Job, timeout_s: float) -> Trial:
        result, scratch = self.folder.trial_path(job.spec.id), self.folder.scratch_path
        result.unlink(missing_ok=True)
        shutil.rmtree(scratch, ignore_errors=True)
        (scratch / job.spec.id).mkdir(parents=True)
        kills = environment.oom_kills()
        try:
            ended = self.executor.run(job, timeout_s)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        if result.exists():
            return self.folder.trial(job.spec.id)
        return failures.of_process(
            job.spec,
            ended,
            job.log_name,
            timeout_s=timeout_s,
            oom_kills=environment.oom_kills() - kills,
        )
