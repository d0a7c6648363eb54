"""Segments on a server, asked for by hand: whose the tensors are, and what is left of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from tests.remote.segment.made import ADD_IN_PLACE, FETCH_X, GOOD, PUT_X, SCALED, SEEN, X, encoded

from remora.core.clock import ManualClock
from remora.core.errors import DeadlineExceeded, Refused
from remora.remote.client.placed import upload
from remora.remote.client.server import RemoteServer, connect
from remora.remote.graph.digest import digest_of
from remora.remote.messages import Compute
from remora.remote.segment.plan import FETCH, WEIGHT, Made, Plan, Seen, Several, Signature
from remora.remote.server.house import House
from remora.remote.server.server import Server

TENSOR = torch.arange(6.0).reshape(2, 3)
KEEP = Plan((PUT_X,), (0, 0)[:1], ())
READ = Plan((FETCH_X,), (0, 0), (24,))


def ask(
    remote: RemoteServer, plan: Plan, tensors: Sequence[torch.Tensor] = (), **more: Any
) -> list[torch.Tensor]:
    """Run ``plan``, sent whole."""
    digest, content = encoded(plan)
    whole = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    asked = Compute(plan=digest, anew=True, **more)
    return remote.channel.call(asked, [whole, *tensors], deadline_s=20).tensors


def test_a_plan_is_run(remote: RemoteServer) -> None:
    (tripled,) = ask(remote, GOOD, [TENSOR])
    assert torch.equal(tripled, 3 * TENSOR)


def test_a_plan_that_crossed_is_known_by_its_digest(remote: RemoteServer) -> None:
    ask(remote, GOOD, [TENSOR])
    again = remote.channel.call(Compute(plan=encoded(GOOD)[0], first=5), [TENSOR + 1]).tensors
    assert torch.equal(again[0], 3 * (TENSOR + 1))


def test_scalars_are_those_of_the_segment(remote: RemoteServer) -> None:
    (first,) = ask(remote, SCALED, [TENSOR], scalars=(2.0, 0.25))
    (again,) = ask(remote, SCALED, [TENSOR], scalars=(-3.0, float("inf")))
    assert torch.equal(first, TENSOR / 2)
    torch.testing.assert_close(again, TENSOR * -3.0 * float("inf"), equal_nan=True)


@pytest.mark.parametrize("scalars", [(), (1.0,), (1.0, 2.0, 3.0)])
def test_as_many_scalars_come_as_the_plan_takes(
    remote: RemoteServer, scalars: tuple[float, ...]
) -> None:
    with pytest.raises(Refused, match="this plan takes 2"):
        ask(remote, SCALED, [TENSOR], scalars=scalars)


def test_what_it_makes_stays_until_it_is_freed(remote: RemoteServer) -> None:
    ask(remote, KEEP, [TENSOR], first=7)
    assert torch.equal(ask(remote, READ, inputs=(7,))[0], TENSOR)
    assert remote.counts()["tensors"] == 1

    remote.channel.call(Compute(freed=(7, 99)))
    assert remote.counts()["tensors"] == remote.counts()["tensors_bytes"] == 0
    with pytest.raises(Refused, match="no tensor 7 here"):
        ask(remote, READ, inputs=(7,))


def test_a_long_segment_is_run_in_slices() -> None:
    house = House(torch.device("cpu"), clock=ManualClock())
    try:
        segments = house.segments()
        plan = Plan((PUT_X, ADD_IN_PLACE, FETCH_X), (0, *(1, 0, 0) * 39, 2, 0), ())
        digest, content = encoded(plan)
        whole = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        segment = segments.segment(Compute(digest, anew=True), [whole, TENSOR.clone()])

        assert [segment.advance(0) for _ in range(3)] == [False, False, True]
        assert torch.equal(segment.fetched[0], TENSOR * 2.0**39)
        segments.close()
        assert house.room.held_bytes == house.room.handles == 0
    finally:
        house.close()


def test_what_is_sent_back_is_as_it_was_then(remote: RemoteServer) -> None:
    plan = Plan((PUT_X, FETCH_X, ADD_IN_PLACE), (0, 1, 0, 2, 0, 0), ())
    assert torch.equal(ask(remote, plan, [TENSOR])[0], TENSOR)


def test_an_input_is_freed_within_a_stream(remote: RemoteServer) -> None:
    ask(remote, KEEP, [TENSOR], first=7)
    plan = Plan((FETCH_X,), (0, 0, -1, 0), (24,))
    assert torch.equal(ask(remote, plan, inputs=(7,))[0], TENSOR)
    assert remote.counts()["tensors"] == 0


def test_two_tenants_cannot_reach_each_others_tensors(server: Server, remote: RemoteServer) -> None:
    ask(remote, KEEP, [TENSOR], first=7)
    with connect(server.address) as stranger:
        with pytest.raises(Refused, match="no tensor 7 here"):
            ask(stranger, READ, inputs=(7,))
        stranger.channel.call(Compute(freed=(7,)))
        ask(stranger, KEEP, [TENSOR + 1], first=7)
        with pytest.raises(Refused, match="is not known over this connection"):
            stranger.channel.call(Compute(plan=encoded(GOOD)[0]), [TENSOR])
    assert torch.equal(ask(remote, READ, inputs=(7,))[0], TENSOR)


WRONG: dict[str, tuple[Callable[[RemoteServer], object], str]] = {
    "fewer inputs": (lambda remote: ask(remote, READ), "0 inputs; this plan takes 1"),
    "no tensors": (lambda remote: ask(remote, GOOD), "fewer tensors than it puts"),
    "another tensor": (lambda remote: ask(remote, GOOD, [TENSOR.double()]), "not float32"),
    "another shape": (lambda remote: ask(remote, GOOD, [TENSOR[:1]]), r"not float32 \[2, 3\]"),
    "no plan": (lambda remote: remote.channel.call(Compute(plan="a" * 64)), "not known over this"),
    "nothing with it": (lambda remote: remote.channel.call(Compute(anew=True)), "comes with the"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_refused_and_leaves_nothing(remote: RemoteServer, name: str) -> None:
    asks, words = WRONG[name]
    with pytest.raises(Refused, match=words):
        asks(remote)
    assert remote.counts()["tensors_bytes"] == 0


def test_an_input_of_another_size_is_refused(remote: RemoteServer) -> None:
    ask(remote, KEEP, [TENSOR], first=7)
    with pytest.raises(Refused, match="24 bytes; this plan takes 400"):
        ask(remote, Plan((FETCH_X,), (0, 0), (400,)), inputs=(7,))


def test_a_refused_plan_is_refused_again_by_its_digest(remote: RemoteServer) -> None:
    bad = Plan((Signature("aten.view.default", (SEEN,)),), (0, 0), (24,))
    for _ in range(2):
        with pytest.raises(Refused, match="not one that a server runs"):
            ask(remote, bad)
    with pytest.raises(Refused, match="not one that a server runs"):
        remote.channel.call(Compute(plan=encoded(bad)[0]))


def test_a_weight_is_copied_before_it_is_written_to(server: Server, remote: RemoteServer) -> None:
    digest = digest_of(TENSOR)
    upload(remote.channel, {digest: TENSOR})
    weight = Signature(WEIGHT, (digest,), (), (X,))
    ask(remote, Plan((weight,), (0,), ()), first=1)
    assert server.house.room.held_bytes == 0  # it is the store's
    doubled = Plan((ADD_IN_PLACE, FETCH_X), (0, 0, 0, 1, 0), (24,))
    assert torch.equal(ask(remote, doubled, inputs=(1,))[0], 2 * TENSOR)
    assert server.house.room.held_bytes == 512

    both = Plan((weight, ADD_IN_PLACE, FETCH_X), (0, 1, 0, 0, 2, 0), ())
    assert torch.equal(ask(remote, both, first=2)[0], 2 * TENSOR)
    assert torch.equal(server.house.weights.hold([digest])[digest], TENSOR)


def test_a_weight_that_is_not_there_is_refused(remote: RemoteServer) -> None:
    weight = Signature(WEIGHT, ("b" * 64,), (), (X,))
    with pytest.raises(Refused, match="weights are not here"):
        ask(remote, Plan((weight,), (0,), ()))


def test_what_does_not_depend_on_a_failure_is_done(remote: RemoteServer) -> None:
    ids, row = Made("int64", (1,), (1,)), Seen("float32", (1, 3), (3, 1))
    take = Signature(
        "aten.embedding.default", (SEEN, Seen("int64", (1,), (1,))), (),
        (Made("float32", (1, 3), (3, 1)),),
    )  # fmt: skip
    plan = Plan(
        (PUT_X, Signature("remora.put", (), (), (ids,)), take, ADD_IN_PLACE),
        (0, 1, 2, 0, 1, 3, 0, 0), (),
    )  # fmt: skip
    with pytest.raises(Refused, match=r"node 2 \(aten.embedding.default\) failed: index out of"):
        ask(remote, plan, [TENSOR, torch.tensor([5])], first=1)

    assert torch.equal(ask(remote, READ, inputs=(1,))[0], 2 * TENSOR)
    with pytest.raises(Refused, match="index out of range"):
        ask(remote, Plan((Signature(FETCH, (row,)),), (0, 0), (12,)), inputs=(3,))


def test_a_segment_that_nobody_waits_for_is_given_up(server: Server, remote: RemoteServer) -> None:
    before = server.house.room.held_bytes
    size = 400
    square = Made("float32", (size, size), (size, 1))
    view = Seen("float32", (size, size), (size, 1))
    multiply = Signature("aten.mm.default", (view, view), (), (square,))
    stream: list[int] = [0]
    for number in range(2000):
        stream += [1, number, number]
        if number:
            stream += [-1, number]
    plan = Plan((Signature("remora.put", (), (), (square,)), multiply), tuple(stream), ())
    digest, content = encoded(plan)
    whole = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    with pytest.raises(DeadlineExceeded):
        remote.channel.call(
            Compute(plan=digest, anew=True), [whole, torch.eye(size)], deadline_s=0.3
        )
    remote.echo([])
    remote.channel.call(Compute(freed=tuple(range(2001))), deadline_s=20)
    assert server.house.room.held_bytes == before
    assert server.house.engine.waiting == 0


def read(*sizes: int, dtype: str = "float32") -> Seen:
    return Seen(dtype, sizes, torch.empty(sizes, device="meta").stride())


def like(tensor: Seen) -> Made:
    return Made(tensor.dtype, tensor.sizes, tensor.strides)


IMAGE, POOLED = read(1, 1, 4, 4), read(1, 1, 2, 2)
PAIR = Several((2, 2))
OUT_OF_RANGE: dict[str, Signature] = {
    "rows of a table": Signature(
        "aten.embedding_dense_backward.default",
        (read(1, 2, 2), read(1, 2, dtype="int64"), 3, -1, False), (), (like(read(3, 2)),)),
    "places of an image": Signature(
        "aten.max_pool2d_with_indices_backward.default",
        (POOLED, IMAGE, PAIR, PAIR, Several((0, 0)), Several((1, 1)), False,
         read(1, 1, 2, 2, dtype="int64")), (), (like(IMAGE),)),
    "classes": Signature(
        "aten.nll_loss_backward.default",
        (read(), read(4, 3), read(4, dtype="int64"), None, 1, -100, read()), (),
        (like(read(4, 3)),)),
}  # fmt: skip


@pytest.mark.parametrize("name", OUT_OF_RANGE)
@pytest.mark.parametrize("index", [-1, 2**40])
def test_an_index_beyond_its_bounds_is_refused_before_it_is_used(
    remote: RemoteServer, name: str, index: int
) -> None:
    signature = OUT_OF_RANGE[name]
    given = [part for part in signature.arguments if isinstance(part, Seen)]
    puts = tuple(Signature("remora.put", (), (), (like(part),)) for part in given)
    stream = (*range(len(given)), len(given), *range(len(given)))
    tensors = [
        torch.full(part.sizes, index if part.dtype == "int64" else 1).to(getattr(torch, part.dtype))
        for part in given
    ]
    with pytest.raises(Refused, match="an index is out of range"):
        ask(remote, Plan((*puts, signature), stream, ()), tensors)
