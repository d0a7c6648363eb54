"""Manifests and owners' cards: what was written is read, and nothing else is taken for it."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remora.checkpoint.layout.records import Entry
from remora.checkpoint.tiers.contract import Copy, Owner, check
from remora.checkpoint.tiers.manifest import decode_copy, decode_owner, encode_copy, encode_owner
from remora.core.errors import CheckpointDamaged

words = st.integers(0, 2**63 - 1)
sizes = st.lists(st.integers(1, 2**50), min_size=1, max_size=4).map(tuple)
entries = st.builds(
    Entry, words, words, st.integers(0, 2**16 - 1), st.just(1), words,
    st.binary(min_size=16, max_size=16), words,
)  # fmt: skip
copies = st.builds(
    lambda generation, entry, sizes: Copy(
        generation, "abc123", dataclasses.replace(entry, parts=len(sizes)), sizes
    ),
    words, entries, sizes,
)  # fmt: skip
owners = st.builds(Owner, st.text(), st.text(), words, st.text())


@given(copies)
def test_a_copys_manifest_comes_back(copy: Copy) -> None:
    assert decode_copy(encode_copy(copy)) == copy


@given(owners)
def test_an_owners_card_comes_back(owner: Owner) -> None:
    assert decode_owner(encode_owner(owner)) == owner


@given(copies, st.data())
def test_no_changed_manifest_is_taken_for_one(copy: Copy, data: st.DataObject) -> None:
    whole = encode_copy(copy)
    at = data.draw(st.integers(0, len(whole) - 2))  # the last is a line's end, of no meaning
    bit = data.draw(st.integers(0, 7))
    changed = whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :]
    with pytest.raises(CheckpointDamaged):
        decode_copy(changed)
    with pytest.raises(CheckpointDamaged):
        decode_copy(whole[:at])


@given(st.binary(max_size=400))
def test_garbage_is_no_manifest(data: bytes) -> None:
    for decode in (decode_copy, decode_owner):
        with pytest.raises(CheckpointDamaged):
            decode(data)


GOOD = Copy(1, "abc", Entry(1, 1, 0, 1, 1, bytes(16), 0), (10,))


@pytest.mark.parametrize(
    "bad",
    [
        dataclasses.replace(GOOD, generation=-1),
        dataclasses.replace(GOOD, session="../../etc"),
        dataclasses.replace(GOOD, session=""),
        dataclasses.replace(GOOD, sizes=()),
        dataclasses.replace(GOOD, sizes=(0,)),
        dataclasses.replace(GOOD, sizes=(2**51,)),
        dataclasses.replace(GOOD, entry=dataclasses.replace(GOOD.entry, sequence=2**63)),
        dataclasses.replace(GOOD, entry=dataclasses.replace(GOOD.entry, slot=70_000)),
        dataclasses.replace(GOOD, entry=dataclasses.replace(GOOD.entry, root=b"short")),
        dataclasses.replace(GOOD, entry=dataclasses.replace(GOOD.entry, parts=2)),
    ],
    ids=["generation", "path", "session", "none", "empty", "huge", "word", "slot", "root", "parts"],
)
def test_what_cannot_be_a_copy_is_refused(bad: Copy) -> None:
    with pytest.raises(ValueError):
        check(bad)
    with pytest.raises(CheckpointDamaged):
        decode_copy(encode_copy(bad))


def test_a_manifest_of_another_version_says_so() -> None:
    import xxhash

    line = encode_copy(GOOD).split(b"\n")[0].replace(b"copy-1", b"copy-2")
    sealed = line + b"\n" + xxhash.xxh3_64_hexdigest(line).encode() + b"\n"
    with pytest.raises(CheckpointDamaged, match="another version"):
        decode_copy(sealed)
