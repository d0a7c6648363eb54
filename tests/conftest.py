"""What every test needs of the process that runs it."""

from __future__ import annotations

import os
import signal

import pytest

# One thread in every process: two workers share two cores, and sums come out the same everywhere.
os.environ.setdefault("OMP_NUM_THREADS", "1")

SLOW_CASES = (
    "[dcp-async-process]",
    "[dcp-async-process-",
    "-dcp-async-process]",
    "[torch-checkpointing]",
)
"""Cases of systems that start a process, or a pool of threads, for every ride."""
OTHER_SIZES = (
    "[bert-large-", "[bloom-560m-", "[device-like-l-", "[device-like-m-", "[device-like-s-",
    "[device-like-xl-", "[gpt2-large-", "[gpt2-medium-", "[gpt2-xl-", "[opt-1.3b-", "[resnet50-",
    "[whisper-base-",
)  # fmt: skip
"""Cases of workloads whose model is there in another size as well."""

OTHER_MODES = (
    "[clip-vit-b32-forward", "[gat-train", "[gpt2-40m-train", "[gpt2-forward", "[gpt2-prefill",
    "[gpt2-train", "[llama-2-7b-decode", "[micro-attention-forward", "[micro-conv-forward",
    "[micro-elementwise-forward", "[opt-350m-decode", "[opt-350m-train", "[siamese-train",
    "[t5-base-train", "[transformer-xl-train", "[vgg16-", "[vit-train", "[whisper-tiny-forward",
    "[whisper-tiny-train",
)  # fmt: skip
"""Cases of workloads of which another is there of the same kind, in the same conformance test."""

SLOW_TESTS = (
    # more of what a quicker case of the same test shows
    "cli/test_check_of_odd_programs.py::test_it_runs_as_ever_and_is_watched_to_its_end[threads",
    "conformance/test_executor.py::test_a_worker_dies_with_its_parent[spawn",
    "conformance/test_executor.py::test_the_log_holds_what_the_process_printed[spawn",
    "conformance/test_executor.py::test_a_trial_that_raises_says_so[spawn",
    "conformance/test_service.py::test_detaching_twice_does_no_harm[checkpoint",
    "conformance/test_service.py::test_it_may_detach_in_the_middle_and_attach_again[checkpoint",
    "lab/report/test_curves.py::test_every_curve_is_drawn_in_every_form_and_has_its_csv",
    "test_periodic_change.py::test_a_target_network_and_an_average_of_weights[sampled",
    "test_power_loss.py::test_power_loss_behind_every_change_and_every_tested_subset[archiving",
    "test_power_loss.py::test_power_loss_behind_every_change_and_every_tested_subset[ranks_that",
    "test_power_loss_sees.py::test_going_on_shows_it[MakesTheSlotAnew-archiving",
    "callbacks/test_accelerate.py::test_it_goes_on_as_if_nothing_had_happened[accumulating",
    "callbacks/test_accelerate.py::test_it_goes_on_as_if_nothing_had_happened[global",
    "callbacks/test_accelerate.py::test_it_goes_on_as_if_nothing_had_happened[replacement",
    "callbacks/test_accelerate.py::test_it_goes_on_as_if_nothing_had_happened[seedable",
    "callbacks/test_lightning.py::test_it_goes_on_as_if_nothing_had_happened[accumulating",
    "callbacks/test_lightning.py::test_it_goes_on_as_if_nothing_had_happened[epochs-",
    "callbacks/test_lightning.py::test_it_goes_on_as_if_nothing_had_happened[stream",
    "callbacks/test_lightning.py::test_it_goes_on_as_if_nothing_had_happened[validation",
    "callbacks/test_transformers.py::test_it_goes_on_as_if_nothing_had_happened[each",
    "callbacks/test_transformers.py::test_it_goes_on_as_if_nothing_had_happened[global",
    "callbacks/test_transformers.py::test_it_goes_on_as_if_nothing_had_happened[means",
    "test_parameters.py::test_count_is_the_published_one[bert",
    "test_parameters.py::test_count_is_the_published_one[bloom",
    "test_parameters.py::test_count_is_the_published_one[gpt2-l",
    "test_parameters.py::test_count_is_the_published_one[gpt2-m",
    "test_parameters.py::test_count_is_the_published_one[gpt2-x",
    "test_parameters.py::test_count_is_the_published_one[llama",
    "test_parameters.py::test_count_is_the_published_one[opt",
    "test_power_loss.py::test_power_loss_behind_every_change_and_every_tested_subset[reopened",
    "test_power_loss.py::test_power_loss_behind_every_change_and_every_tested_subset[two_ranks",
    "test_plans.py::test_a_checkpoint_experiment_makes_several_checkpoints_a_trial[paper",
    "test_plans.py::test_a_checkpoint_experiment_makes_several_checkpoints_a_trial[standard",
    "test_no_trace.py::test_everything_is_as_it_was[False-",
    "test_examples.py::test_remora_run_prints_what_is_shown[docs/quickstart.md",
    # start many processes, or measure and want the machine for themselves
    "callbacks/test_ranks.py",
    "sharded/test_ranks.py::test_killed_ranks_go_on_as_if_nothing_had_been",
    "formats/test_dcp.py::test_sharded_tensors_are_put_together",
    "test_faults.py::test_power_may_be_lost_after_a_fault",
    "cli/test_bench.py::test_ctrl_c_keeps_what_was_measured_and_says_how_to_go_on",
    "cli/test_bench.py::test_kill_9_loses_at_most_the_trial_in_flight",
    "docs/test_examples.py::test_the_checkpointed_loop_resumes_and_its_slots_open_without_us",
    "docs/test_examples.py::test_the_results_can_be_read_as_shown",
    "docs/test_examples.py::test_the_example_of_a_service_counts_the_steps",
    "docs/test_examples.py::test_the_page_on_checking_shows_what_one_gets",
    "experiments/test_plans.py::test_the_intervals_are_the_published_ones_at_paper_scale",
    "lab/test_noise.py::test_a_slow_window_is_seen",
    "systems/test_watching.py::test_all_that_is_learned_is_triggered_and_holds_on_another_seed",
    "tap/test_cost.py",
    "tap/test_calls.py::test_jobs_may_leave_in_any_order",
)
"""Each by the end of its folder, its file and how its name begins."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those cases of every test of all systems wait for ``make test-all``, and these tests."""
    for item in items:
        is_slow = any(case in item.name for case in (*SLOW_CASES, *OTHER_SIZES)) or (
            "/conformance/" in item.nodeid and any(case in item.name for case in OTHER_MODES)
        )
        if is_slow or any(f"/{test}" in f"/{item.nodeid}" for test in SLOW_TESTS):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session", autouse=True)
def _interrupts_arrive() -> None:
    """A shell's background job ignores SIGINT, and so would every process a test starts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
