"""A pair that does not fit in memory is left out, with the arithmetic; the rest runs."""

from __future__ import annotations

import pytest

from remora.core.errors import TooLarge
from remora.experiments import isolation
from remora.lab import fitting
from remora.lab.design import Request
from remora.lab.planning import make_plan
from remora.lab.results import Plan
from remora.workloads import registry
from remora.workloads.devices import parse_device
from remora.workloads.fits import check_fits

SERVES, TRAINS = "micro-matmul-forward", "mlp-train"


def _plan() -> Plan:
    design = isolation.tailored(isolation.DESIGN, (), f"{SERVES}:{TRAINS}")
    return make_plan(design, Request(scale="quick"))


def _free(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(fitting, "free_bytes", lambda device: count)


def _needs(name: str) -> int:
    return registry.get(name).footprint("quick").total


def test_all_fit_where_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    _free(monkeypatch, _needs(SERVES) + _needs(TRAINS))
    assert fitting.too_large(_plan()) == {}


def test_a_pair_that_does_not_fit_says_how_much_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    _free(monkeypatch, _needs(SERVES) + _needs(TRAINS) - 1)
    found = fitting.too_large(_plan())
    assert set(found) == {f"{SERVES}/plain + {TRAINS}", f"{SERVES}/idle + {TRAINS}"}
    reason = found[f"{SERVES}/idle + {TRAINS}"]
    assert "together" in reason
    assert "weights" in reason
    assert "--pairs" in reason


def test_one_that_does_not_fit_alone_takes_all_its_rows_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan = _plan()
    _free(monkeypatch, 1000)
    assert set(fitting.too_large(plan)) == {arm.name for arm in plan.arms}
    with pytest.raises(TooLarge):
        check_fits(registry.get(SERVES), "quick", parse_device("cpu"), 1000)
