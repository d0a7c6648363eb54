"""The gate's rows of ``make gpu-check``, on a CPU."""

from __future__ import annotations

import re

import pytest

from benchmarks import gpu_gate


def test_a_slot_is_written_and_costed() -> None:
    said = gpu_gate.slot("cpu")
    assert re.fullmatch(r"(?:.*: written by CPU, a request costs \d+\.\d µs(?:; )?){2}", said)


@pytest.mark.slow
def test_requests_beside_a_training_with_and_without_the_gate() -> None:
    said = gpu_gate.beside("cpu", "quick")
    assert re.search(r"alone p99 .* requests .*; unmanaged .* training .*; at the gate .* ×", said)


def test_a_job_that_ends_early_is_told_of(tmp_path_factory: pytest.TempPathFactory) -> None:
    job = gpu_gate.Job("none", "cpu", "quick", str(tmp_path_factory.mktemp("runtime")))
    try:
        with pytest.raises(gpu_gate.Wrong, match="a job said ''"):
            job.wait_until_ready()
    finally:
        job.end()
