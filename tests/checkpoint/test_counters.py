"""What a job's end says of its checkpoints."""

from __future__ import annotations

from array import array

from remora.checkpoint.counters import Counters


def test_a_job_that_saved_says_how_often_and_what_it_felt() -> None:
    counters = Counters(
        committed=20, skipped=2, bytes_written=20 * 3 * 2**20, last_step=1200,
        stall_ns=array("q", [1_000_000] * 20), stalled_ns=20_000_000,
    )  # fmt: skip

    assert counters.sentence() == (
        "20 checkpoints of 3.0 MiB committed, the last of step 1,200; "
        "training waited 1 ms for each; 2 skipped"
    )


def test_a_job_that_could_not_save_says_so() -> None:
    assert Counters(failed=3).sentence() == "no checkpoint was committed; 3 failed"
