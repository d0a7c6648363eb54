"""Why a trial's process left no samples, in words a user can act on."""

from __future__ import annotations

import signal

from remora.lab.executors.contract import Ended
from remora.lab.results import Trial, TrialSpec
from remora.lab.worker import failed


def of_process(
    spec: TrialSpec, ended: Ended, log_name: str, *, timeout_s: float, oom_kills: int
) -> Trial:
    """The failed trial of a process that wrote no result.

    ``oom_kills`` is how many processes the kernel killed for memory meanwhile.
    """
    if ended.timed_out:
        message = f"did not end within {timeout_s:.0f} s and was killed; raise --timeout"
        return failed(spec, "timed-out", message, log_name)
    if ended.exit_code == -signal.SIGKILL and oom_kills:
        message = "killed by the kernel for lack of memory; use a smaller --scale"
        return failed(spec, "out-of-memory", message, log_name)
    if ended.exit_code < 0:
        name = signal.Signals(-ended.exit_code).name
        return failed(spec, "killed", f"the process died of {name}", log_name)
    message = f"the process exited with {ended.exit_code} and wrote no result"
    return failed(spec, "killed", message, log_name)


def rerun_command(experiment: str, folder: str, arm: str) -> str:
    """The command that runs the failed trials of one arm again."""
    return f"remora bench {experiment} --resume {folder} --only '{arm}'"
