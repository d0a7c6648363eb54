"""What a directory knows: who has come, who answers, and when it tells."""

from __future__ import annotations

import threading
from functools import partial

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from remora.core.errors import Refused
from remora.remote.fleet.members import Members
from remora.remote.fleet.messages import Join, View


def join(name: str = "one", pid: int = 1) -> Join:
    return Join(name, f"tcp://127.0.0.1:{pid}", "", "cpu", pid)


def test_a_server_serves_from_its_first_answer_until_it_is_silent() -> None:
    told = list[str]()
    members = Members(["one", "two"], told.append)
    assert [s.state for s in members.standings] == ["absent", "absent"]
    born = members.join(join())
    assert members.standings[0].state == "silent"
    assert members.view == View(())

    members.answers("one", born, {"sessions": 3})
    (member,) = members.view.members
    assert (member.name, member.address, member.born) == ("one", "tcp://127.0.0.1:1", born)
    assert members.standings[0].counts == {"sessions": 3}

    members.is_silent("one", born, "no answer within 5 s")
    members.is_silent("one", born, "no answer within 5 s")
    assert members.view == View(())
    assert (members.standings[0].state, members.standings[0].why) == (
        "silent", "no answer within 5 s",
    )  # fmt: skip
    assert told == ["one serves on tcp://127.0.0.1:1", "one is left out: no answer within 5 s"]


def test_nothing_heard_of_the_process_before_counts_for_the_new_one() -> None:
    members = Members(["one"])
    before = members.join(join(pid=1))
    members.answers("one", before, {})
    born = members.join(join(pid=2))
    assert members.view == View(()), "the new one has not answered yet"

    members.answers("one", before, {})
    assert members.view == View(())
    members.answers("one", born, {})
    members.is_silent("one", before, "it is dead")
    assert [member.born for member in members.view.members] == [born]
    assert members.standings[0].starts == 2


def test_the_same_process_joins_again_and_is_the_same() -> None:
    members = Members(["one"])
    born = members.join(join())
    members.answers("one", born, {})

    assert members.join(join()) == born
    assert len(members.view.members) == 1
    assert members.standings[0].starts == 1


def test_a_server_that_is_not_expected_is_refused() -> None:
    with pytest.raises(Refused, match="has no 'three'; it has one, two"):
        Members(["one", "two"]).join(join("three"))


def test_who_waits_is_told_of_every_change_and_of_the_end() -> None:
    members = Members(["one"])
    views, goes_on = list[View](), [True]

    def watch() -> None:
        version = 0
        while (found := members.newer(version, lambda: goes_on[0])) is not None:
            version, view = found
            views.append(view)
            seen.set()

    seen = threading.Event()
    watcher = threading.Thread(target=watch)
    watcher.start()
    born = members.join(join())
    for act in (
        partial(members.answers, "one", born, {}),
        partial(members.is_silent, "one", born, "gone"),
    ):
        assert seen.wait(5)
        seen.clear()
        act()
    assert seen.wait(5)
    goes_on[0] = False
    members.wake()
    watcher.join(5)

    assert not watcher.is_alive()
    assert [len(view.members) for view in views] == [0, 1, 0]


NAMES = ("one", "two", "three")


class AnyOrder(RuleBasedStateMachine):
    """Servers that join, answer and fall silent in any order, also after they were replaced."""

    def __init__(self) -> None:
        super().__init__()
        self.members = Members(NAMES)
        self.now: dict[str, int] = {}
        self.serving = set[str]()
        self.births: list[tuple[str, int]] = []
        self.pids = 0

    @rule(name=st.sampled_from(NAMES))
    def joins(self, name: str) -> None:
        self.pids += 1
        self.now[name] = self.members.join(join(name, self.pids))
        self.births.append((name, self.now[name]))
        self.serving.discard(name)

    @rule(data=st.data())
    def is_heard_of(self, data: st.DataObject) -> None:
        if not self.births:
            return
        name, born = data.draw(st.sampled_from(self.births))
        if data.draw(st.booleans()):
            self.members.answers(name, born, {})
            if self.now[name] == born:
                self.serving.add(name)
        else:
            self.members.is_silent(name, born, "why")
            if self.now[name] == born:
                self.serving.discard(name)

    @invariant()
    def the_view_is_who_answered_last(self) -> None:
        view = {member.name: member.born for member in self.members.view.members}
        assert view == {name: self.now[name] for name in self.serving}

    @invariant()
    def who_waits_gets_this_view(self) -> None:
        found = self.members.newer(0, lambda: True)
        assert found is not None
        assert found[1] == self.members.view


TestAnyOrder = AnyOrder.TestCase
