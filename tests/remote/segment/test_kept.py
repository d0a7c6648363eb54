"""Both ends remember the same."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from remora.remote.segment.kept import Kept


def test_the_longest_unused_goes_first() -> None:
    kept: Kept[int] = Kept(most=2)
    kept.keep("a", 1, 10)
    kept.keep("b", 2, 10)
    assert kept.use("a") == 1
    kept.keep("c", 3, 10)
    assert [kept.use(each) for each in "abc"] == [1, None, 3]


def test_it_is_bounded_in_bytes() -> None:
    kept: Kept[int] = Kept(most=10, most_bytes=100)
    for number in range(10):
        kept.keep(str(number), number, 40)
    assert len(kept) == 2
    kept.keep("large", 1, 1000)
    assert kept.use("large") == 1
    assert len(kept) == 1


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 60))))
def test_two_ends_that_are_told_the_same_know_the_same(asked: list[tuple[str, int]]) -> None:
    here: Kept[str] = Kept(most=3, most_bytes=100)
    there: Kept[int] = Kept(most=3, most_bytes=100)
    for digest, size in asked:
        if here.use(digest) is None:
            here.keep(digest, digest, size)
            there.keep(digest, size, size)
        else:
            assert there.use(digest) is not None
