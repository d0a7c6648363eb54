"""Registries: ours first, others loaded when asked for, a broken one spoils only itself."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from remora.core import plugins
from remora.core.errors import Unavailable, UnknownName
from remora.core.plugins import Registry


def accept(name: str, loaded: object) -> int:
    if not isinstance(loaded, int):
        raise TypeError(f"{name} is not a number")
    return loaded


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry[int]:
    points = [
        EntryPoint("maxsize", "sys:maxsize", "numbers"),
        EntryPoint("broken", "no_such_module:thing", "numbers"),
        EntryPoint("wrong", "sys:path", "numbers"),
        EntryPoint("one", "sys:maxsize", "numbers"),
    ]
    monkeypatch.setattr(plugins, "entry_points", lambda group: points)
    return Registry("number", "numbers", {"one": 1, "two": 2}, accept)


def test_built_in_names_come_first_and_cannot_be_taken(registry: Registry[int]) -> None:
    assert registry.names() == ["one", "two", "broken", "maxsize", "wrong"]
    assert registry.get("one") == 1


def test_other_packages_entries_load_when_asked_for(registry: Registry[int]) -> None:
    assert registry.get("maxsize") > 2**31


@pytest.mark.parametrize(("name", "why"), [("broken", "no_such_module"), ("wrong", "not a number")])
def test_a_broken_entry_says_why(registry: Registry[int], name: str, why: str) -> None:
    with pytest.raises(Unavailable, match=why):
        registry.get(name)


def test_an_unknown_name_lists_all(registry: Registry[int]) -> None:
    with pytest.raises(UnknownName, match="maxsize"):
        registry.get("maxsiz")
