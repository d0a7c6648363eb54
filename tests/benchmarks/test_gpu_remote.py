"""The rows of ``make gpu-check`` for servers, on the CPU: the same functions, another device."""

from __future__ import annotations

import pytest
import torch

from benchmarks import gpu, gpu_remote

pytestmark = pytest.mark.slow  # each starts a server


def test_decoding_is_compared_and_timed() -> None:
    said = gpu_remote.decoding("cpu", layers=2, width=128)
    assert "24 of 24 tokens the same" in said
    assert " ms there, " in said


def test_a_picture_is_compared() -> None:
    assert "differs by" in gpu_remote.picture("cpu", scale="quick")


def test_a_state_goes_to_the_host_and_comes_back() -> None:
    assert "16 of 16 tokens the same" in gpu_remote.eviction("cpu")


def test_a_row_runs_in_a_process_and_fails_with_its_reason() -> None:
    assert "5 steps of training" in gpu_remote.in_a_process("operators", "cpu", 90.0)
    with pytest.raises(RuntimeError, match="KeyError: 'none'"):
        gpu_remote.in_a_process("none", "cpu", 90.0)


def test_what_differs_is_a_failure() -> None:
    with pytest.raises(gpu_remote.Differs, match="differ by 5"):
        gpu_remote._difference(torch.tensor([1.0, 1.5]), torch.tensor([1.0, 1.0]))
    with pytest.raises(gpu_remote.Differs, match="from the 1th on"):
        gpu_remote._same_tokens([1, 2, 3], [1, 3, 3])
    assert gpu_remote._same_tokens([1, 2, 3], [1, 2, 4]) == 2


def test_every_row_is_among_the_checks() -> None:
    whats = [what for what, _ in gpu.checks()]
    assert all(what in whats for what, _ in gpu_remote.ROWS.values())
