"""Models in other processes: bytes are counted where they cross, and uploads by themselves."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import torch

from remora.systems import registry
from remora.systems.contract import Option, Ride
from remora.systems.elsewhere import Crossed, ElsewhereRide
from remora.systems.socket_bytes import SocketBytes
from remora.workloads import registry as workloads
from remora.workloads.contract import Session

SENT, BACK = 100_000, 50


def test_the_kernels_counters_are_of_this_processes_sockets_alone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        early = socket.create_connection(listener.getsockname())
        early_there, _ = listener.accept()
        early.sendall(b"x" * 1000)
        counted = SocketBytes()
        client = socket.create_connection(listener.getsockname())
        there, _ = listener.accept()
        client.sendall(b"x" * SENT)
        _receive(there, SENT)
        there.sendall(b"y" * BACK)
        _receive(client, BACK)
        crossed = counted()
        assert crossed is not None  # both ends are this process's: what one sends, the other gets
        assert SENT + BACK <= crossed.sent <= SENT + BACK + 8
        assert crossed.received == SENT + BACK
        client.close()
        there.close()
        assert counted() == crossed
        for each in (early, early_there):
            each.close()


def _receive(connection: socket.socket, count: int) -> None:
    while count > 0:
        count -= len(connection.recv(count))


class _Counting:
    def __init__(self) -> None:
        self.now: Crossed | None = Crossed(0, 0)

    def __call__(self) -> Crossed | None:
        return self.now


def _session() -> Session:
    return workloads.get("micro-matmul-forward").build("quick", torch.device("cpu"))


def test_what_it_took_to_put_the_model_there_is_not_traffic_of_steps() -> None:
    counting = _Counting()
    ride = ElsewhereRide(_session(), counting, None)
    counting.now = Crossed(500, 5)
    ride.ready()
    ride.step()
    counting.now = Crossed(512, 8)
    moved = ride.moved()
    assert (moved.sent_bytes, moved.received_bytes, moved.wire_bytes) == (12, 3, 15)
    assert dict(ride.counts()) == {"upload_sent_bytes": 500, "upload_received_bytes": 5}


def test_cpu_of_the_other_process_is_that_of_the_steps_behind_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spent_s = iter([0.0, 1.0, 1.03])
    monkeypatch.setattr(ElsewhereRide, "_cpu_s", lambda ride: next(spent_s))
    ride = ElsewhereRide(_session(), _Counting(), None)
    for _ in range(4):
        ride.step()
    assert ride.counts()["server_cpu_ms_per_step"] == pytest.approx(10)


def test_what_nothing_can_tell_is_unknown_and_not_0() -> None:
    counting = _Counting()
    counting.now = None
    ride = ElsewhereRide(_session(), counting, None)
    ride.step()
    assert ride.moved().wire_bytes is None
    assert ride.counts() == {}


def _ride(
    system: str, workload: str, directory: Path, options: dict[str, Option] | None = None
) -> tuple[Session, Ride]:
    session = workloads.get(workload).build("quick", torch.device("cpu"))
    return session, registry.create(system, options).ride(session, directory)


def _told_by(session: Session) -> list[None]:
    """Grows with every token that a step tells of."""
    told: list[None] = []
    session.on_first = lambda: told.append(None)
    return told


PEERS = ["torch-rpc", pytest.param("ray-actor", marks=pytest.mark.slow)]


@pytest.mark.slow
@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("loop_there", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_peer_decodes_the_tokens_that_the_model_itself_does(
    peer: str, loop_there: bool, tmp_path: Path
) -> None:
    pytest.importorskip("transformers")
    alone = workloads.get("tiny-gpt2-decode").build("quick", torch.device("cpu"))
    expected = [alone.step().digest for _ in range(2)]
    session, ride = _ride(peer, "tiny-gpt2-decode", tmp_path, {"loop_there": loop_there})
    told = _told_by(session)
    try:
        assert [ride.step().digest for _ in range(2)] == expected
        assert len(told) == (0 if loop_there else 2 * 16)  # all at once, or one by one
        moved, counts = ride.moved(), ride.counts()
    finally:
        ride.close()
        session.close()
    assert moved.wire_bytes is not None
    assert moved.wire_bytes > 0
    assert counts["upload_sent_bytes"] > 0
    assert not ride.in_process


OURS: list[tuple[dict[str, Option], float, float]] = [
    ({}, 10, 2_000),
    ({"streamed": False}, 100, 4_000),
    ({"graph": False}, 10_000, 10_000_000),
    ({"weights": False}, 1_600_000, 1e9),
    ({"selected": False}, 3_000_000, 1e9),
]
"""Options, and the least and most bytes that 16 tokens of a tiny GPT-2 may then take: its weights
are 0.4 MB, and its logits 0.2 MB a token."""


@pytest.mark.parametrize(
    ("options", "least", "most"),
    [
        pytest.param(*each, marks=[pytest.mark.slow] * (index != 0))
        for index, each in enumerate(OURS)
    ],
)
def test_every_row_of_ours_is_what_it_says_by_its_bytes(
    options: dict[str, Option], least: float, most: float, tmp_path: Path
) -> None:
    pytest.importorskip("transformers")
    alone = workloads.get("tiny-gpt2-decode").build("quick", torch.device("cpu"))
    expected = alone.step().digest
    session, ride = _ride("remote", "tiny-gpt2-decode", tmp_path, options)
    told = _told_by(session)
    try:
        assert ride.step().digest == expected
        assert len(told) == 16
        moved, counts = ride.moved(), ride.counts()
    finally:
        ride.close()
        session.close()
    assert moved.wire_bytes is not None
    assert least < moved.wire_bytes < most
    assert counts["upload_sent_bytes"] > 300_000
    here, there = counts["all_sent_bytes"], counts["server_received_bytes"]
    assert abs(here - there) < 1024
    assert counts["profile_server_duration_ms"] > 0


@pytest.mark.slow
def test_weights_and_state_that_do_not_stay_cross_with_every_token(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    options: dict[str, Option] = {
        "graph": False,
        "weights": False,
        "selected": False,
        "streamed": False,
        "state": "recomputed",
    }
    session, ride = _ride("remote", "tiny-gpt2-decode", tmp_path, options)
    try:
        ride.step()
        sent, received = ride.moved().sent_bytes, ride.moved().received_bytes
    finally:
        ride.close()
        session.close()
    assert sent is not None
    assert received is not None
    assert sent > 16 * 400_000
    assert received > 16 * 4 * 50_257
