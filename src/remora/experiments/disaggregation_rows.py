"""The rows of ``remora bench disaggregation``: ways of calling a model in another process.

Each of the ladder is the one before it with one thing more that stays there, and each ``no-`` row
is all of it with one thing taken away: what that thing is worth is the difference of two rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from remora.lab.design import Chosen
from remora.lab.results import Option
from remora.workloads.contract import Mode

Options = dict[str, Option]

REMOTE, CAPTURED, DEVICE = "remote", "captured", "remote-device"
PEERS = ("torch-rpc", "ray-actor")
NAIVE = "naive"
LOCAL_REMOTE = "local-remote"
FULL = "full"

_NAIVE: Options = {
    "graph": False,
    "weights": False,
    "state": "recomputed",
    "selected": False,
    "streamed": False,
}
"""Graph, weights and the whole input cross with every call; all outputs come back."""
_CAPTURE_ONLY: Options = {**_NAIVE, "graph": True}
_LOCAL_REMOTE: Options = {**_CAPTURE_ONLY, "weights": True}

_LANGUAGE: tuple[Mode, ...] = ("decode", "prefill")
_DECODE: tuple[Mode, ...] = ("decode",)

NATIVE = Chosen("native")
LADDER = (
    Chosen(CAPTURED),
    Chosen(REMOTE, _NAIVE, NAIVE, most_steps=2),
    Chosen(REMOTE, _CAPTURE_ONLY, "capture-only", most_steps=2),
    Chosen(REMOTE, _LOCAL_REMOTE, LOCAL_REMOTE),
    Chosen(REMOTE, name=FULL),
)
WITHOUT = (
    Chosen(REMOTE, {"weights": False}, "no-weight-cache", most_steps=2),
    Chosen(REMOTE, {"graph": False}, "no-plan-reuse"),
    Chosen(REMOTE, {"state": "recomputed"}, "no-kv-residency", _DECODE),
    Chosen(REMOTE, {"state": "returned"}, "kv-returned", _LANGUAGE),
    Chosen(REMOTE, {"selected": False}, "no-output-selection", _DECODE),
    Chosen(REMOTE, {"streamed": False}, "no-streaming", _DECODE),
)
"""What keeps nothing apart for a workload is not run on it: one without keys and values has none to
keep, and one that asks for one position's logits has nothing to choose from."""
BY_OPERATOR = (
    Chosen(DEVICE, {"batched": False}, "driver", most_steps=2),
    Chosen(DEVICE, name="eager-device"),
)
"""Nothing is captured: each operator is a round trip, or they wait until a value is wanted."""
OTHERS = tuple(Chosen(peer) for peer in PEERS)
ALL = (NATIVE, *LADDER, *WITHOUT, *BY_OPERATOR, *OTHERS)


def few(*whole: str) -> tuple[Chosen, ...]:
    """All rows for decoding; for other workloads those called ``whole``, or of that system."""
    return tuple(
        each if (each.name or each.system) in whole else each._replace(modes=_DECODE)
        for each in ALL
        if not each.modes or "decode" in each.modes
    )


class Network(NamedTuple):
    """Between program and server, each way."""

    mbit_s: float
    delay_ms: float

    @property
    def words(self) -> str:
        large = self.mbit_s >= 1000
        rate = f"{self.mbit_s / 1000:g} Gbit/s" if large else f"{self.mbit_s:g} Mbit/s"
        return f"{rate}, {self.delay_ms:g} ms"


NETWORKS = {"1gbit-1ms": Network(1000.0, 1.0), "100mbit-10ms": Network(100.0, 10.0)}
"""What a rack and what an office give. A row over one is called ``row@network``."""


def over_networks(*rows: Chosen, modes: tuple[Mode, ...] = ()) -> Iterator[Chosen]:
    """``rows`` with each network between program and server."""
    for name, network in NETWORKS.items():
        for row in rows:
            options = {**row.options, **network._asdict()}
            most = None if row.most_steps is None else 1
            yield Chosen(REMOTE, options, f"{row.name}@{name}", modes or row.modes, most)


def row(name: str) -> Chosen:
    """The row of that name."""
    return next(each for each in ALL if each.name == name)
