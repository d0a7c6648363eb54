"""Many requests of many threads over one link, over every kind of connection."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
import torch
from tests.remote.wire.conftest import Served
from tests.remote.wire.spoken import (
    ALL_DTYPES,
    QUICK,
    Count,
    Echo,
    Fail,
    Silence,
    as_error,
    is_last,
    same,
    some_tensor,
    within,
)  # fmt: skip

from remora.core.errors import BadValue, DeadlineExceeded, Refused, ServerLost
from remora.remote.wire.channel import Channel
from remora.remote.wire.counted import Counted
from remora.remote.wire.link import Patience

KINDS = ("tcp", "unix", "tls", "shared")
Serve = Callable[..., Served]


def channel_to(served: Served, **options: object) -> Channel:
    link = served.link(**options)
    channel = Channel(link, is_last=is_last, as_error=as_error)
    served.stack.callback(channel.close)
    return channel


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_is_answered(served: Serve, kind: str) -> None:
    channel = channel_to(served(kind))
    for count in (3, 30_000, 3_000_000):
        tensors = [some_tensor(dtype, (count // dtype.itemsize,)) for dtype in ALL_DTYPES[::5]]
        arrived = channel.call(Echo("x"), tensors)
        assert arrived.message == Echo("x")
        assert all(map(same, arrived.tensors, tensors))


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_gives_every_answer(served: Serve, kind: str) -> None:
    channel = channel_to(served(kind))
    answers = channel.stream(Count(5), [torch.arange(40_000)])
    got = [(each.message.number, int(each.tensors[0][-1])) for each in answers]
    assert got == [(number, 39_999) for number in range(5)]


@pytest.mark.parametrize("kind", KINDS)
def test_both_ends_count_the_same(served: Serve, kind: str) -> None:
    made = served(kind)
    channel = channel_to(made)
    for count in (10, 1_000_000):
        channel.call(Echo("x"), [torch.zeros(count)])
    here, there = channel.link, made.server.links[0]
    assert within(5, lambda: there.counted.bytes_received == here.counted.bytes_sent)
    assert within(5, lambda: here.counted.bytes_received == there.counted.bytes_sent)
    assert within(5, lambda: there.counted.messages_sent == 3)  # the welcome is one
    check_counts(here.counted, there.counted, kind)


def check_counts(here: Counted, counted: Counted, kind: str) -> None:
    assert here.messages_received == counted.messages_sent
    assert here.shared_bytes_sent == counted.shared_bytes_received
    assert here.shared_bytes_received == counted.shared_bytes_sent
    if kind == "shared":
        assert here.shared_bytes_sent == here.shared_bytes_received == 4_000_000
        assert here.bytes_sent < 2_000
    else:
        assert here.shared_bytes_sent == 0
        assert here.bytes_sent > 4_000_000


@pytest.mark.parametrize("kind", KINDS)
def test_many_threads_share_one_connection(served: Serve, kind: str) -> None:
    channel = channel_to(served(kind))
    wrong: list[object] = []

    def ask(base: int) -> None:
        for number in range(base, base + 12):
            size = (5, 50_000, 400_000)[number % 3]
            if number % 4:
                answer = channel.call(Echo(str(number)), [torch.full((size,), number)])
                if answer.message.text != str(number) or not bool(
                    (answer.tensors[0] == number).all()
                ):
                    wrong.append(answer)
            elif [each.message.number for each in channel.stream(Count(4))] != [0, 1, 2, 3]:
                wrong.append(number)

    threads = [threading.Thread(target=ask, args=(100 * place,)) for place in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert not wrong


def test_another_leads_as_soon_as_the_leader_has_its_answer(served: Serve) -> None:
    channel = channel_to(served(), patience=Patience(heartbeat_s=60, silence_s=600))
    leader = threading.Thread(target=lambda: list(channel.stream(Count(2, pause_s=0.2))))
    leader.start()
    assert within(5, lambda: channel._led)
    began = time.monotonic()
    assert len(list(channel.stream(Count(4, pause_s=0.1)))) == 4
    assert time.monotonic() - began < 2
    leader.join()


def test_an_answer_that_is_an_error_is_raised(served: Serve) -> None:
    channel = channel_to(served())
    with pytest.raises(Refused, match="too busy"):
        channel.call(Fail("too busy"))
    with pytest.raises(Refused, match="no room"):
        list(channel.stream(Fail("no room")))
    assert channel.call(Echo("goes on")).message == Echo("goes on")


def test_a_call_out_of_time_is_cancelled(served: Serve) -> None:
    made = served()
    channel = channel_to(made)
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded, match="has not answered within the time given"):
        channel.call(Silence(), deadline_s=0.1)
    assert 0.1 <= time.monotonic() - began < 1
    assert within(5, lambda: 1 in made.server.cancelled)
    assert channel.call(Echo("goes on"), deadline_s=5).message == Echo("goes on")


def test_a_follower_out_of_time_does_not_wait_for_the_leader(served: Serve) -> None:
    channel = channel_to(served())
    leader = threading.Thread(target=lambda: list(channel.stream(Count(2, pause_s=0.5))))
    leader.start()
    time.sleep(0.1)
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        channel.call(Silence(), deadline_s=0.1)
    assert time.monotonic() - began < 0.4
    leader.join()


def test_a_stream_out_of_time_is_cancelled(served: Serve) -> None:
    made = served()
    channel = channel_to(made)
    with pytest.raises(DeadlineExceeded):
        for _ in channel.stream(Count(1000, pause_s=0.02), deadline_s=0.1):
            pass
    assert within(5, lambda: 1 in made.server.cancelled)


@pytest.mark.parametrize("taken", [0, 3])
def test_leaving_a_stream_early_cancels_it(served: Serve, taken: int) -> None:
    made = served()
    channel = channel_to(made)
    answers = channel.stream(Count(10_000, pause_s=0.001))
    for _ in range(taken):
        next(answers)
    del answers
    assert within(5, lambda: 1 in made.server.cancelled)
    assert channel.call(Echo("goes on")).message == Echo("goes on")
    assert not channel._waiters


def test_a_slow_consumer_of_a_stream_holds_nobody_up(served: Serve) -> None:
    channel = channel_to(served())
    answers = channel.stream(Count(3))
    assert next(answers).message.number == 0
    assert channel.call(Echo("x")).message == Echo("x")
    assert [each.message.number for each in answers] == [1, 2]


def test_what_cannot_be_sent_leaves_the_channel_as_it_was(served: Serve) -> None:
    channel = channel_to(served())
    with pytest.raises(BadValue):
        channel.call(Echo("x"), [torch.zeros(3).to_sparse()])
    with pytest.raises(BadValue):
        channel.stream(Echo("x"), [torch.zeros(3).to_sparse()])
    assert not channel._waiters
    assert channel.call(Echo("x")).message == Echo("x")


def test_everybody_who_waits_hears_that_the_server_is_lost(served: Serve) -> None:
    made = served()
    channel = channel_to(made)
    heard: list[str] = []

    def ask() -> None:
        try:
            channel.call(Silence())
        except ServerLost as error:
            heard.append(str(error))

    threads = [threading.Thread(target=ask) for _ in range(5)]
    for thread in threads:
        thread.start()
    assert within(5, lambda: len(channel._waiters) == 5)
    made.server.links[0].close()
    for thread in threads:
        thread.join(5)
    assert heard == ["the server is lost: the other end closed the connection; connect again"] * 5
    with pytest.raises(ServerLost):
        channel.call(Echo("x"))


def test_an_idle_client_notices_that_the_server_is_lost(served: Serve) -> None:
    made = served()
    channel = channel_to(made, patience=QUICK)
    channel.call(Echo("x"))
    made.server.links[0].close()
    assert within(5, lambda: channel._lost is not None)


def test_an_idle_client_answers_heartbeats(served: Serve) -> None:
    made = served(patience=QUICK)
    channel = channel_to(made, patience=QUICK)
    time.sleep(1)
    assert channel.call(Echo("still here")).message == Echo("still here")


def test_nothing_is_left_when_it_is_closed(served: Serve) -> None:
    before = threading.active_count()
    made = served()
    with channel_to(made) as channel:
        channel.call(Echo("x"))
    channel.close()
    made.listener.close()
    assert within(5, lambda: threading.active_count() == before)
