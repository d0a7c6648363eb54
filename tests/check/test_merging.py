"""Merge, prune and select: which invariants stay, and what is said of those that do not."""

from __future__ import annotations

import pytest

from remora.check.conditions import Condition, Constant
from remora.check.invariants import Header, HeldOut, Invariant, Invariants, Source
from remora.check.merging import merge
from remora.check.pruning import prune, select
from remora.check.relations.contains import Contains
from remora.check.relations.cover import Cover
from remora.check.relations.range import Range
from remora.core.errors import BadValue, UnknownName

A_B = Invariant(claim=Contains("a", "b"), support=5)
A_C = Invariant(claim=Contains("a", "c"), support=5)
D_E = Invariant(claim=Cover("e", "d"), support=9, against=2)
STEP = "torch.optim.Optimizer.step"
TRAINING = Condition(any_of=((Constant("phase", ("train",)),),))


def of(*invariants: Invariant, calls: dict[str, int], torch: str | None = "2.9") -> Invariants:
    source = Source(program="p", steps=4, calls=calls)
    return Invariants(header=Header(torch=torch, sources=(source,)), invariants=invariants)


def test_one_that_the_other_could_have_learned_and_did_not_is_dropped() -> None:
    one, other = of(A_B, A_C, calls={"a": 5}), of(A_B, calls={"a": 3})
    merged = merge({"one": one, "other": other})

    assert [each.name for each in merged.kept.invariants] == [A_B.name]
    assert [each.line() for each in merged.dropped] == [
        f"dropped [{A_C.name}] a calls c: other calls a 3 times and does not have it"
    ]
    assert merge({"other": other, "one": one}).kept.invariants == merged.kept.invariants


def test_one_that_the_other_had_too_little_to_learn_from_stays() -> None:
    merged = merge({"one": of(A_B, calls={"a": 5}), "other": of(D_E, calls={"a": 2, "d": 9})})

    assert merged.kept.invariants == (A_B, D_E)
    assert not merged.dropped


def test_calls_of_all_runs_of_a_file_count_together() -> None:
    twice = Source(program="q", steps=1, calls={"a": 2})
    other = Invariants(header=Header(sources=(twice, twice)), invariants=())

    assert merge({"one": of(A_B, calls={"a": 5}), "other": other}).kept.invariants == ()
    assert merge({"one": of(A_B, calls={"a": 5}), "other": other}, fewest=5).dropped == ()


def test_the_function_that_is_judged_is_the_one_that_counts() -> None:
    """Cover judges each call of the later function."""
    first_only = of(calls={"e": 100})
    assert merge({"one": of(D_E, calls={"d": 9}), "other": first_only}).kept.invariants == (D_E,)
    then_too = of(calls={"d": 3})
    assert merge({"one": of(D_E, calls={"d": 9}), "other": then_too}).kept.invariants == ()


def test_under_another_condition_it_is_another_invariant() -> None:
    narrower = Invariant(claim=A_B.claim, when=TRAINING, support=3)
    merged = merge({"one": of(A_B, calls={"a": 5}), "other": of(narrower, calls={"a": 5})})

    assert merged.kept.invariants == ()
    assert len(merged.dropped) == 2


def test_of_bounds_that_differ_the_widest_count() -> None:
    one = of(bounds(0.01, 10.0), bounds(1.0, 2.0, "update"), calls={STEP: 60})
    other = of(bounds(0.1, 100.0), bounds(None, 3.0, "update"), calls={STEP: 60})
    merged = merge({"one": one, "other": other})

    assert [each.claim for each in merged.kept.invariants] == [
        Range(STEP, "gradient norm", 0.01, 100.0), Range(STEP, "update", None, 3.0),
    ]  # fmt: skip
    assert [each.support for each in merged.kept.invariants] == [120, 120]
    assert not merged.dropped


def test_where_no_bound_is_left_nothing_is() -> None:
    one, other = of(bounds(1.0, None), calls={STEP: 60}), of(bounds(None, 2.0), calls={STEP: 60})
    merged = merge({"one": one, "other": other})

    assert merged.kept.invariants == ()
    assert len(merged.dropped) == 2


def bounds(low: float | None, high: float | None, number: str = "gradient norm") -> Invariant:
    return Invariant(claim=Range(STEP, number, low, high), support=60)


def test_support_adds_up_and_the_header_says_where_all_came_from() -> None:
    held_out = HeldOut(program="h", steps=2, dropped=("00000000",))
    one, other = of(D_E, calls={"d": 9}), of(D_E, calls={"d": 9}, torch="2.10")
    other = Invariants(
        header=Header(torch="2.10", sources=other.header.sources, held_out=(held_out,)),
        invariants=other.invariants,
    )
    merged = merge({"one": one, "other": other}).kept

    [both] = merged.invariants
    assert (both.support, both.against) == (18, 4)
    assert merged.header.torch == "2.9, 2.10"
    assert merged.header.sources == one.header.sources + other.header.sources
    assert merged.header.held_out == (held_out,)
    assert merge({"one": one, "again": one}).kept.header.torch == "2.9"
    assert merged.in_words() == "1 invariant of 8 steps of 2 runs"


def test_what_was_tried_on_a_run_is_not_counted_against_it() -> None:
    one, other = of(A_B, A_C, calls={"a": 5}), of(calls={"a": 5})
    merged = merge({"one": one, "other": other}, settled=[(A_B.name, "other")])

    assert merged.kept.invariants == (A_B,)


# ---------------------------------------------------------------- prune and select

FILE = of(A_B, A_C, D_E, calls={})


def test_pruning_takes_out_what_any_option_tells() -> None:
    assert prune(FILE, names=[A_B.name]).invariants == (A_C, D_E)
    assert prune(FILE, relations=["contains"]).invariants == (D_E,)
    assert prune(FILE, fewest=6).invariants == (D_E,)
    assert prune(FILE, fewest=5).invariants == FILE.invariants
    assert prune(FILE, names=[D_E.name], fewest=6).invariants == ()
    assert prune(FILE, fewest=6).header == FILE.header


def test_selecting_keeps_what_all_options_tell() -> None:
    assert select(FILE) == FILE.invariants
    assert select(FILE, relations=["contains"], functions=["c"]) == (A_C,)
    assert select(FILE, functions=["e", "b"]) == (A_B, D_E)
    assert select(FILE, names=[A_C.name, D_E.name]) == (A_C, D_E)


def test_names_that_are_none() -> None:
    with pytest.raises(BadValue, match="no invariant is called 'x'; `remora invariants show"):
        prune(FILE, names=["x"])
    with pytest.raises(UnknownName, match=r"unknown relation 'contain' \(did you mean 'contains'"):
        select(FILE, relations=["contain"])
