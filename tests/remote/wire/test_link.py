"""Two ends of one connection: messages, tensors, order, priority, cancelling, counting."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import msgspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.remote.wire.spoken import (
    ALL_DTYPES,
    QUICK,
    Echo,
    Requests,
    Silence,
    joined,
    same,
    some_tensor,
    within,
)  # fmt: skip

from remora.core.clock import ManualClock
from remora.core.errors import BadValue, DeadlineExceeded, LinkLost, WireDamaged
from remora.remote.wire.arrived import Arrived, Cancelled
from remora.remote.wire.frames import Kind, pack
from remora.remote.wire.limits import Limits
from remora.remote.wire.link import Link, Patience

UINT4: torch.dtype = vars(torch)["uint4"]
shapes = st.lists(st.integers(0, 5), max_size=5).map(tuple)
tensors_of = st.lists(
    st.builds(some_tensor, st.sampled_from(ALL_DTYPES), shapes, st.integers(0, 9)), max_size=4
)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=50), tensors_of)
def test_messages_and_tensors_arrive_as_they_are(text: str, tensors: list[torch.Tensor]) -> None:
    with joined() as (one, other):
        one.send(7, Echo(text), tensors)
        arrived = other.receive()
        assert (arrived.request, arrived.message) == (7, Echo(text))
        assert len(arrived.tensors) == len(tensors)
        assert all(map(same, arrived.tensors, tensors))
        assert arrived.begun_ns <= arrived.ended_ns


@pytest.mark.parametrize("dtype", ALL_DTYPES)
@pytest.mark.parametrize("count", [70_000, 700_000])
def test_every_dtype_in_bulk(dtype: torch.dtype, count: int) -> None:
    tensors = [some_tensor(dtype, (count, 1)), some_tensor(dtype, (3, 1)), some_tensor(dtype, ())]
    with joined() as (one, other):
        sender = threading.Thread(target=one.send, args=(1, Echo(""), tensors))
        sender.start()
        assert all(map(same, other.receive().tensors, tensors))
        sender.join()


@pytest.mark.parametrize("rows", [5, 500])
def test_views_are_sent_as_what_they_show(rows: int) -> None:
    base = torch.randn(rows, 600, dtype=torch.complex64)
    views = [base.t(), base[::2, 1::3], base.conj(), base.conj().imag, base[0, 0]]
    views.append(torch.randn(4, requires_grad=True))
    with joined() as (one, other):
        sender = threading.Thread(target=one.send, args=(1, Echo(""), views))
        sender.start()
        arrived = other.receive()
        sender.join()
        for got, sent in zip(arrived.tensors, views, strict=True):
            assert torch.equal(got, sent.detach())
            assert got.is_contiguous()
            assert not got.requires_grad


def test_many_tensors_in_one_message() -> None:
    tensors = [some_tensor(torch.int16, (place % 7,), place) for place in range(3000)]
    with joined() as (one, other):
        sender = threading.Thread(target=one.send, args=(1, Echo(""), tensors))
        sender.start()
        assert all(map(same, other.receive().tensors, tensors))
        sender.join()


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (torch.zeros(3).to_sparse(), r"call \.to_dense\(\) first"),
        (torch.zeros(3, device="meta"), r"on meta cannot be sent; call \.cpu\(\) first"),
        (torch.empty(3, dtype=UINT4), "uint4 cannot be sent; choose from: bool, uint8"),
        (torch.zeros(5000), "a tensor has 19.5 KiB; at most 10.0 KiB are accepted"),
        (torch.zeros([1] * 17), "17 dimensions; at most 16"),
    ],
)
def test_what_cannot_be_sent_is_refused_before_anything_is(
    tensor: torch.Tensor, words: str
) -> None:
    with joined(limits=Limits(tensor_bytes=10_240)) as (one, other):
        with pytest.raises(BadValue, match=words):
            one.send(1, Echo("x"), [tensor])
        one.send(2, Echo("after"))
        assert other.receive().message == Echo("after")


def test_messages_beyond_the_limits_are_not_sent() -> None:
    with joined(limits=Limits(message_bytes=100, tensors=3, head_bytes=200)) as (one, _):
        with pytest.raises(BadValue, match="120 B of tensors; at most 100 B"):
            one.send(1, Echo("x"), [torch.zeros(15), torch.zeros(15)])
        with pytest.raises(BadValue, match="4 tensors; at most 3"):
            one.send(1, Echo("x"), [torch.zeros(1)] * 4)
        with pytest.raises(BadValue, match="send what is large as a tensor"):
            one.send(1, Echo("x" * 300))
        assert one.counted.bytes_sent == 0


def test_small_messages_overtake_a_large_one() -> None:
    large = torch.zeros(64 * 2**20, dtype=torch.uint8)
    with joined() as (one, other):
        sender = threading.Thread(target=one.send, args=(1, Echo("large"), [large]))
        sender.start()
        assert within(5, lambda: one.counted.bytes_sent > 0)

        def token() -> None:
            for request in range(2, 7):
                one.send(request, Echo("token"), [torch.zeros(4)])

        tokens = threading.Thread(target=token)
        tokens.start()
        order = [other.receive().request for _ in range(6)]
        sender.join()
        tokens.join()
    assert order == [2, 3, 4, 5, 6, 1]


def test_messages_of_one_request_stay_in_order() -> None:
    large = torch.zeros(8 * 2**20, dtype=torch.uint8)
    with joined() as (one, other):
        first = threading.Thread(target=one.send, args=(1, Echo("large"), [large]))
        first.start()
        assert within(5, lambda: one.counted.bytes_sent > 0)
        second = threading.Thread(target=one.send, args=(1, Echo("small")))
        second.start()
        assert [other.receive().message.text for _ in range(2)] == ["large", "small"]
        first.join()
        second.join()


def test_many_threads_in_both_directions_at_once() -> None:
    def send(link: Link, base: int) -> None:
        for number in range(6):
            count = (3, 40_000, 600_000)[number % 3]
            link.send(base + number, Echo(str(base)), [torch.full((count,), base + number)])

    with joined() as links:
        threads = [
            threading.Thread(target=send, args=(link, 100 * place))
            for link in links for place in range(1, 4)
        ]  # fmt: skip
        got: dict[int, list[Arrived]] = {0: [], 1: []}
        for place, link in enumerate(links):
            threads.append(
                threading.Thread(
                    target=lambda link=link, place=place: got[place].extend(
                        link.receive() for _ in range(18)
                    )
                )
            )
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for arrived in got.values():
            assert len({each.request for each in arrived}) == 18
            assert all(bool((each.tensors[0] == each.request).all()) for each in arrived)
        one, other = (link.counted for link in links)
        assert (one.bytes_sent, one.frames_sent) == (other.bytes_received, other.frames_received)
        assert (other.bytes_sent, other.frames_sent) == (one.bytes_received, one.frames_received)
        assert one.messages_sent == other.messages_received == 18


def test_two_ends_that_both_send_much_do_not_wait_for_each_other() -> None:
    large = torch.zeros(16 * 2**20, dtype=torch.uint8)
    received: list[int] = []

    def send_then_receive(link: Link) -> None:
        link.send(1, Echo(""), [large])
        received.append(link.receive().tensors[0].nbytes)

    with joined() as links:
        threads = [threading.Thread(target=send_then_receive, args=(link,)) for link in links]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(15)
    assert received == [large.nbytes] * 2


def test_bytes_are_those_of_the_frames() -> None:
    with joined() as (one, other):
        sent = one.send(1, Echo("x"), [torch.zeros(100)])
        arrived = other.receive()
        assert sent.wire_bytes == arrived.wire_bytes == one.counted.bytes_sent
        assert 400 < sent.wire_bytes < 480


def test_cancelling_stops_a_large_message() -> None:
    large = torch.zeros(256 * 2**20, dtype=torch.uint8)
    with joined() as (one, other):
        whole: list[bool] = []
        sender = threading.Thread(target=lambda: whole.append(one.send(1, Echo(""), [large]).whole))
        sender.start()
        assert within(5, lambda: one.counted.bytes_sent > 0)
        one.cancel(1)
        assert other.receive().message == Cancelled()
        sender.join()
        assert whole == [False]
        assert one.counted.bytes_sent < large.nbytes
        one.send(1, Echo("again"))
        assert other.receive().message == Echo("again")


def test_the_other_end_can_stop_a_large_message() -> None:
    large = torch.zeros(256 * 2**20, dtype=torch.uint8)
    with joined() as (one, other):
        whole: list[bool] = []
        sender = threading.Thread(target=lambda: whole.append(one.send(1, Echo(""), [large]).whole))
        sender.start()
        assert within(5, lambda: one.counted.bytes_sent > 0)
        other.cancel(1)
        assert other.receive().message == Cancelled()  # one drops it, and says so
        assert one.receive().message == Cancelled()
        sender.join()
        assert whole == [False]
        one.send(2, Echo("after"))
        assert other.receive().message == Echo("after")


def test_out_of_time_in_the_middle_of_a_large_message() -> None:
    large = torch.zeros(64 * 2**20, dtype=torch.uint8)
    with joined() as (one, other):
        with pytest.raises(DeadlineExceeded):  # nobody reads
            one.send(1, Echo(""), [large], until_ns=one.clock.wall_ns() + 50_000_000)
        one_more = threading.Thread(target=one.send, args=(2, Echo("after")))
        one_more.start()
        assert other.receive().message == Cancelled()
        assert other.receive().message == Echo("after")
        one_more.join()


def test_a_silent_end_is_noticed() -> None:
    one, silent = socket.socketpair()
    link = Link(one, Requests, patience=QUICK)
    began = time.monotonic()
    with pytest.raises(LinkLost, match=r"silent for 0\.3 s"):
        link.receive()
    assert 0.2 < time.monotonic() - began < 2
    with pytest.raises(LinkLost, match="silent"):
        link.send(1, Silence())
    link.close()
    silent.close()


def test_a_silent_end_is_noticed_though_its_machine_takes_what_is_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        one = socket.create_connection(listening.getsockname())
        silent, _ = listening.accept()
    link, ends = Link(one, Requests, patience=QUICK), threading.Event()

    def send() -> None:
        with contextlib.suppress(LinkLost):
            while not ends.wait(0.002):
                link.send(1, Silence())

    sender = threading.Thread(target=send)
    sender.start()
    began = time.monotonic()
    with pytest.raises(LinkLost, match=r"silent for 0\.3 s"):
        link.receive_within(10)
    assert time.monotonic() - began < 1
    ends.set()
    sender.join()
    link.close()
    silent.close()


def test_silence_is_measured_on_the_clock_that_is_given() -> None:
    clock = ManualClock()
    one, silent = socket.socketpair()
    link = Link(one, Requests, clock=clock, patience=Patience(heartbeat_s=2, silence_s=10))
    assert link.receive_within(0.0) is None
    clock.advance(3_000_000_000)
    assert link.receive_within(0.0) is None
    assert silent.recv(100) == pack(Kind.PING, 0, 0)
    assert link.receive_within(0.0) is None  # the question has been taken
    clock.advance(7_000_000_000)
    assert link.receive_within(0.0) is None
    clock.advance(2_000_000_000)
    with pytest.raises(LinkLost, match="silent for 10 s"):
        link.receive_within(0.0)
    link.close()
    silent.close()


def test_an_end_that_reads_nothing_is_noticed() -> None:
    one, silent = socket.socketpair()
    link = Link(one, Requests, patience=QUICK)
    with pytest.raises(LinkLost, match="read nothing for"):
        link.send(1, Silence(), [torch.zeros(2**24)])
    link.close()
    silent.close()


def test_two_quiet_ends_stay_together() -> None:
    with joined(patience=QUICK) as (one, other):
        waits = threading.Thread(target=one.receive_within, args=(0.8,))
        waits.start()
        assert other.receive_within(0.8) is None
        waits.join()
        one.send(1, Echo("still here"))
        assert other.receive().message == Echo("still here")


def test_closing_wakes_who_waits() -> None:
    with joined() as (one, _):
        heard: list[str] = []

        def wait() -> None:
            try:
                one.receive()
            except LinkLost as error:
                heard.append(str(error))

        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.02)
        one.close()
        thread.join(5)
        assert heard == ["the connection was closed here"]
        with pytest.raises(LinkLost, match="closed here"):
            one.send(1, Silence())
        one.close()


def test_the_other_end_closing_is_noticed_after_what_it_sent() -> None:
    with joined() as (one, other):
        one.send(1, Echo("last"))
        one.close()
        assert other.receive().message == Echo("last")
        with pytest.raises(LinkLost, match="the other end closed the connection"):
            other.receive()


def head(message: object, *specs: tuple[object, ...]) -> bytes:
    return msgspec.msgpack.encode((message, specs))


HELLO = Echo("x")
HALF = (Kind.BEGIN, 1, 0, head(HELLO, ("int8", (2,), -1)), b"1")
SMALL = Limits(message_bytes=10_000, tensor_bytes=5_000, tensors=3, in_flight_bytes=12_000, open=4)


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        ([(Kind.PING, 0, 1, b"", b"")], "frame 1 arrived where 0 was due"),
        ([(Kind.WHOLE, 1, 0, b"\xc1", b"")], "cannot be read"),
        ([(Kind.WHOLE, 1, 0, b"\x91" * 5000, b"")], "cannot be read"),
        ([(Kind.WHOLE, 1, 0, b"\xdd\xff\xff\xff\xff", b"")], "cannot be read"),
        ([(Kind.WHOLE, 1, 0, head({"type": "what"}), b"")], "cannot be read"),
        ([(Kind.WHOLE, 1, 0, head(HELLO, ("int8", (-1,), -1)), b"")], "cannot be read"),
        ([(Kind.WHOLE, 1, 0, head(HELLO, ("qint8", (1,), -1)), b"1")], "unknown dtype 'qint8'"),
        ([(Kind.WHOLE, 1, 0, head(HELLO, ("int8", (2,), -1)), b"1")], "holds 1 bytes of tensors"),
        ([(Kind.WHOLE, 1, 0, head(HELLO, ("int8", (2**40,), -1)), b"1")], "1.0 TiB; at most 4.9"),
        ([(Kind.WHOLE, 1, 0, head(HELLO, ("int8", (0, 2**40, 2**40), -1)), b"")], "no memory"),
        ([(Kind.WHOLE, 1, 0, head(HELLO, ("int8", (0,) * 17, -1)), b"")], "17 dimensions"),
        ([(Kind.WHOLE, 1, 0, head(HELLO, *[("int8", (0,), -1)] * 4), b"")], "4 tensors; at most 3"),
        ([(Kind.WHOLE, 1, 0, head(HELLO, ("int8", (9,), 64)), b"")], "that is not shared"),
        ([(Kind.DATA, 1, 0, b"", b"1")], "which began no message"),
        ([(Kind.BEGIN, 1, 0, head(HELLO, ("int8", (2,), -1)), b"12")], "begin frame holds 2"),
        (
            [HALF, (Kind.DATA, 1, 1, b"", b"123")],
            "3 bytes arrived for a message that lacks 1",
        ),
        (
            [HALF, (Kind.DATA, 1, 1, b"", b"")],
            "0 bytes arrived for a message that lacks 1",
        ),
        (
            [(Kind.BEGIN, 1, at, head(HELLO, ("int8", (2,), -1)), b"1") for at in range(2)],
            "began a message within another",
        ),
        (
            [(Kind.BEGIN, at, at, head(HELLO, ("int8", (4500,), -1)), b"1") for at in range(3)],
            "on their way; at most 11.7 KiB are accepted",
        ),
        (
            [(Kind.BEGIN, at, at, head(HELLO, ("int8", (2,), -1)), b"1") for at in range(5)],
            "more than 4 messages are on their way",
        ),
        ([(Kind.RELEASE, 1, 0, b"12345678", b"")], "never lent"),
        ([(Kind.MAPPED, 1, 0, b"", b"")], "never offered"),
    ],
)  # fmt: skip
def test_what_is_no_message_in_order_ends_the_link(
    frames: list[tuple[Kind, int, int, bytes, bytes]], words: str
) -> None:
    raw, one = socket.socketpair()
    link = Link(one, Requests, limits=SMALL)
    for kind, request, sequence, top, body in frames:
        raw.sendall(pack(kind, request, sequence, len(top), len(body)) + top + body)
    with pytest.raises(WireDamaged, match=words):
        link.receive_within(5)
    with pytest.raises(WireDamaged, match=words):
        link.send(1, Silence())
    assert within(5, lambda: raw.recv(100) == b"")
    link.close()
    raw.close()


def test_an_end_that_sends_and_does_not_read_fills_no_memory() -> None:
    raw, one = socket.socketpair()
    link = Link(one, Requests)
    with_ping = b"".join(pack(Kind.PING, 0, at) for at in range(20_000))
    sender = threading.Thread(target=raw.sendall, args=(with_ping,))
    sender.start()
    while link._reader.traffic.frames < 20_000:
        assert link.receive_within(0.01) is None
    assert len(link._writer._signals) <= 1
    assert len(link._writer._unwritten) < 100
    sender.join()
    link.close()
    raw.close()


def test_as_many_large_messages_are_open_as_the_limits_allow() -> None:
    most: list[int] = []
    with joined(limits=Limits(open=2)) as (one, other):
        threads = [
            threading.Thread(target=one.send, args=(at, Echo(""), [torch.zeros(500_000)]))
            for at in range(5)
        ]
        for thread in threads:
            thread.start()
        for _ in range(5):
            most.append(len(one._writer._open))
            other.receive()
        for thread in threads:
            thread.join()
    assert max(most) <= 2


def test_a_limit_of_the_other_end_that_nothing_meets_is_refused_at_once() -> None:
    with joined() as (one, _):
        one._writer.limits = Limits(in_flight_bytes=0)
        with pytest.raises(BadValue, match="at most 0 B may be on their way"):
            one.send(1, Echo("x"), [torch.zeros(50_000)])


def test_sequence_numbers_begin_again() -> None:
    with joined() as (one, other):
        one._writer._sequence = other._reader._sequence = 2**32 - 1
        for text in ("last", "first"):
            one.send(1, Echo(text))
            assert other.receive().message == Echo(text)
