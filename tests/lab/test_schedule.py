"""Order: every block holds every arm once, shuffled, the same for the same seed."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from tests.lab.builders import make_spec

from remora.lab.design import Chosen
from remora.lab.schedule import arms_of, block_order, labels, schedule

CHOSEN = [Chosen("native"), Chosen("idle"), Chosen("torch-save", {"every": 5})]
ARMS = arms_of("vgg16-train", CHOSEN, (0.05,))


def test_native_always_comes_twice_and_injected_arms_are_native() -> None:
    assert [(arm.label, arm.role) for arm in ARMS] == [
        ("native", "baseline"),
        ("native (again)", "again"),
        ("native +5%", "injected"),
        ("idle", "system"),
        ("torch-save", "system"),
    ]
    assert ARMS[2].system == "native"
    assert ARMS[2].inject == 0.05


@given(st.integers(0, 2**31), st.integers(1, 6))
def test_every_block_holds_every_arm_once(seed: int, blocks: int) -> None:
    specs = schedule(ARMS, range(blocks), seed, make_spec(ARMS[0]))
    for block in range(blocks):
        mine = [spec for spec in specs if spec.block == block]
        assert Counter(spec.arm.name for spec in mine) == Counter(arm.name for arm in ARMS)
        assert [spec.position for spec in mine] == list(range(len(ARMS)))
    assert len({spec.id for spec in specs}) == len(specs)


def test_order_is_a_function_of_seed_and_block_alone() -> None:
    once = schedule(ARMS, range(8), 7, make_spec(ARMS[0]))
    assert once == schedule(ARMS, range(8), 7, make_spec(ARMS[0]))
    assert once[5 * len(ARMS) :] == schedule(ARMS, range(5, 8), 7, make_spec(ARMS[0]))
    assert once != schedule(ARMS, range(8), 8, make_spec(ARMS[0]))


def test_a_workloads_arms_run_one_after_another_in_either_order() -> None:
    both = [*ARMS, *arms_of("gpt2-train", [Chosen("idle")], ())]
    orders = [[arm.workload for arm in block_order(both, block, 0)] for block in range(40)]
    runs = {tuple(dict.fromkeys(order)) for order in orders}
    assert runs == {("vgg16-train", "gpt2-train"), ("gpt2-train", "vgg16-train")}
    for order in orders:
        assert sum(a != b for a, b in pairwise(order)) == 1


def test_every_arm_is_first_about_equally_often() -> None:
    firsts = Counter(block_order(ARMS, block, 0)[0].label for block in range(500))
    assert set(firsts) == {arm.label for arm in ARMS}
    assert min(firsts.values()) > 60  # expected 100 each; 60 is five deviations away


def test_a_system_at_several_options_is_labelled_by_those_that_differ() -> None:
    chosen = [
        Chosen("idle"),
        Chosen("torch-save", {"every": 5, "disk_mb_s": 200}),
        Chosen("torch-save", {"every": 10, "disk_mb_s": 200}),
        Chosen("dcp-async", {"every": 5}),
        Chosen("dcp-async", {"every": 5, "threads": 2}),
    ]
    assert labels(chosen) == [
        "idle",
        "torch-save every=5",
        "torch-save every=10",
        "dcp-async",
        "dcp-async threads=2",
    ]


def test_a_row_with_a_name_is_called_by_it_and_by_what_it_is_swept_over() -> None:
    chosen = [
        Chosen("remote", {"graph": False, "weights": False}, "naive"),
        Chosen("remote", {"delay_ms": 1.0}, "full"),
        Chosen("remote", {"delay_ms": 10.0}, "full"),
    ]
    assert labels(chosen) == ["naive", "full delay_ms=1.0", "full delay_ms=10.0"]
    first = arms_of("gpt2-decode", chosen, (), scale="standard")[2]
    assert (first.label, first.system, first.scale) == ("naive", "remote", "standard")


@given(
    st.lists(
        st.builds(
            Chosen,
            st.sampled_from(["a", "b"]),
            st.dictionaries(st.sampled_from(["every", "threads"]), st.integers(1, 3)),
            st.sampled_from(["", "named"]),
        ),
        unique_by=lambda chosen: (
            chosen.name or chosen.system,
            tuple(sorted(chosen.options.items())),
        ),
    )
)
def test_labels_tell_every_two_arms_apart(chosen: list[Chosen]) -> None:
    assert len(set(labels(chosen))) == len(chosen)
