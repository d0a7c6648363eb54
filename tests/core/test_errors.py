"""Errors: one line, the valid choices, the next step."""

from __future__ import annotations

import doctest

import pytest

from remora.core import errors
from remora.core.errors import InvariantViolated, RemoraError, UnknownName, UserError


def every(kind: type[RemoraError]) -> list[type[RemoraError]]:
    return [kind, *(each for sub in kind.__subclasses__() for each in every(sub))]


def test_the_tree_is_drawn_as_it_is() -> None:
    drawn = errors.__doc__ or ""
    for kind in every(RemoraError):
        assert kind.__name__ in drawn


def test_only_the_users_mistakes_exit_2() -> None:
    for kind in every(RemoraError):
        is_mistake = issubclass(kind, UserError) and kind is not InvariantViolated
        assert kind.exit_code == (2 if is_mistake else 1)


def test_an_unknown_name_lists_the_valid_ones() -> None:
    message = str(UnknownName("scale", "papr", ["paper", "quick"]))
    assert message == "unknown scale 'papr' (did you mean 'paper'?); choose from: paper, quick"
    assert "none are registered" in str(UnknownName("system", "x", []))


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(errors).failed == 0


@pytest.mark.parametrize("kind", every(RemoraError))
def test_every_error_says_what_it_is_for(kind: type[RemoraError]) -> None:
    assert kind.__doc__
