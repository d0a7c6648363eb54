"""The device itself: what crosses and when, what is freed, what goes wrong and how it says so."""

from __future__ import annotations

import gc
import math
import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from remora.core.errors import BadValue, Refused, ServerLost
from remora.remote.client.server import RemoteServer, connect
from remora.remote.eager.device import Device
from remora.remote.server.house import Quotas
from remora.remote.server.server import Server
from remora.share.interception.contract import Gate
from remora.share.interception.dispatched import Dispatched


def messages_of(remote: RemoteServer, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Every message that goes from here on."""
    sent: list[object] = []
    send = remote.channel.link.send

    def watched(request: int, message: object, *rest: object, **how: object) -> object:
        sent.append(message)
        return send(request, message, *rest, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(remote.channel.link, "send", watched)
    return sent


def test_one_message_brings_a_value(
    device: Device, remote: RemoteServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = device.put(nn.Sequential(*(nn.Linear(8, 8) for _ in range(20))))
    device.synchronize()
    sent = messages_of(remote, monkeypatch)
    with torch.no_grad():
        y = model(torch.randn(2, 8).to(device)).relu().sum()
        assert sent == []
        y.item()

    assert len(sent) == 1


def test_without_batching_each_operator_is_a_round_trip(
    remote: RemoteServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with remote.device(batched=False) as device:
        x = torch.ones(3).to(device)
        sent = messages_of(remote, monkeypatch)
        y = (x + 1) * 2
        assert len(sent) == 2
        assert y.tolist() == [4, 4, 4]


def test_what_comes_again_goes_as_a_digest(device: Device, remote: RemoteServer) -> None:
    model = device.put(nn.Sequential(*(nn.Linear(8, 8) for _ in range(20))))
    x = torch.randn(2, 8)
    sent, results = [], []
    for turn in range(4):
        before = remote.counted.bytes_sent
        with torch.no_grad():
            results.append(model(x.to(device) + turn).sum(1).cpu())
        sent.append(remote.counted.bytes_sent - before)

    assert sent[0] > 1500
    assert max(sent[2:]) < sent[0] / 4
    assert not torch.equal(results[2], results[3])  # another whole number is another plan


NUMBERS = [0.0, -0.0, 1.0, 1e-300, 0.1, 0.30000000000000004, math.inf, -math.inf, math.nan]


def test_numbers_are_not_of_the_plan(device: Device, remote: RemoteServer) -> None:
    x, plans = torch.tensor([1.0, -2.0, 0.0], dtype=torch.float64), []
    there = x.to(device)
    for number in NUMBERS:
        result = torch.copysign(there, number).lerp_(there, 0.25).add_(there * number, alpha=number)
        expected = torch.copysign(x, number).lerp_(x, 0.25).add_(x * number, alpha=number)
        torch.testing.assert_close(result.cpu(), expected, rtol=0, atol=0, equal_nan=True)
        assert torch.equal(result.cpu().signbit(), expected.signbit())
        plans.append(remote.counts()["plans"])
    assert plans[-1] == plans[2]


def test_all_numbers_of_one_segment(device: Device) -> None:
    x = torch.ones(2, dtype=torch.float64)
    there = x.to(device)
    results = torch.stack([there * number for number in NUMBERS * 2])
    expected = torch.stack([x * number for number in NUMBERS * 2])
    assert results.cpu().numpy().tobytes() == expected.numpy().tobytes()


def test_numbers_are_as_exact_and_as_true_as_here(device: Device) -> None:
    for x in (torch.arange(3), torch.ones(3), torch.ones((), dtype=torch.float16)):
        for number in (True, 2, 2.0, np.float64(2.5), float(np.float32(0.1))):
            result, expected = x.to(device) * number, x * number
            assert result.dtype is expected.dtype
            assert torch.equal(result.cpu(), expected)


@pytest.mark.gradients
def test_steps_whose_size_changes_are_one_plan(device: Device, remote: RemoteServer) -> None:
    model = device.put(nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 100)
    x, plans, losses = torch.randn(4, 8).to(device), [], []
    for _ in range(8):
        optimizer.zero_grad()
        loss = model(x).pow(2).mean()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        device.synchronize()
        plans.append(remote.counts()["plans"])
    assert plans[-1] == plans[3]
    assert losses[-1] < losses[0]


@pytest.mark.slow
@pytest.mark.gradients
def test_a_step_of_training_comes_again(device: Device, remote: RemoteServer) -> None:
    model = device.put(nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, sent = torch.randn(4, 8).to(device), []
    for _ in range(6):
        before = remote.counted.bytes_sent
        optimizer.zero_grad()
        loss = model(x).pow(2).mean()
        loss.backward()
        optimizer.step()
        loss.item()
        sent.append(remote.counted.bytes_sent - before)

    assert sent[-1] == sent[-2] < 300 < sent[0]


def test_what_nobody_holds_is_freed_there(device: Device, remote: RemoteServer) -> None:
    before = remote.counts()
    x = torch.randn(100, 100).to(device)
    y = (x @ x).relu()
    y.sum().item()
    held = remote.counts()
    assert held["tensors"] >= before["tensors"] + 2
    assert held["tensors_bytes"] >= before["tensors_bytes"] + 80_000

    del x, y
    gc.collect()
    device.synchronize()
    after = remote.counts()
    for name in ("tensors", "tensors_bytes"):
        assert after[name] == before[name] == 0


def test_what_is_made_between_is_freed_within_the_segment(server: Server) -> None:
    server.house.room.limit_bytes = 3_000_000
    with connect(server.address) as remote, remote.device() as device:
        x = torch.ones(250_000).to(device)  # 1 MB: room for two more at a time
        for _ in range(50):
            x = x + 1
        assert x[0].item() == 51


def test_everything_is_freed_when_the_device_is_closed(remote: RemoteServer) -> None:
    device = remote.device()
    model = device.put(nn.Linear(4, 4))
    x = torch.ones(4, device=device) + 1
    x.sum().item()
    device.close()
    device.close()

    counts = remote.counts()
    assert counts["tensors"] == counts["tensors_bytes"] == 0
    with pytest.raises(BadValue, match="this device was closed; make another"):
        x.cpu()
    with pytest.raises(BadValue, match="closed"):
        model(x)
    with pytest.raises(BadValue, match="no device is in use"):
        torch.zeros(3, device=device)


def test_it_is_closed_though_something_failed(remote: RemoteServer) -> None:
    with remote.device() as device:
        x = torch.zeros(3).to(device)
        x.index_add_(0, torch.tensor([7]).to(device), torch.ones(1, device=device))
    assert remote.counts()["tensors"] == remote.counts()["tensors_bytes"] == 0


def test_everything_is_freed_when_the_client_goes(server: Server) -> None:
    remote = connect(server.address)
    x = torch.ones(1000).to(remote.device()) + 1
    x.sum().item()
    assert server.house.room.handles > 0
    remote.close()

    _until(lambda: server.house.room.handles == server.house.room.held_bytes == 0)


def test_a_program_has_one_device_at_a_time(remote: RemoteServer) -> None:
    words = r"has a device on a server already; close\(\) that"
    with remote.device(), pytest.raises(BadValue, match=words):
        remote.device()
    with remote.device() as device:
        assert torch.zeros(1, device=device).item() == 0


def test_tensors_of_a_device_that_was_closed_do_not_mix(remote: RemoteServer) -> None:
    with remote.device() as device:
        x = torch.ones(2, device=device)
    with remote.device() as device, pytest.raises(BadValue, match="closed"):
        x + torch.ones(2, device=device)


def test_a_lost_server_ends_the_device_in_words(server: Server) -> None:
    with connect(server.address, reconnect_s=0) as remote:
        device = remote.device()
        x = torch.ones(3).to(device)
        x.sum().item()
        server.close()
        with pytest.raises(ServerLost, match=r"what was kept on it is gone.*server\.device\(\)"):
            (x + 1).cpu()
        for use in (lambda: x + 1, lambda: x.cpu(), lambda: torch.ones(2, device=device)):
            with pytest.raises(ServerLost, match="is gone"):
                use()  # type: ignore[no-untyped-call]
        device.close()


def test_an_operator_that_fails_there_is_told_with_its_line(device: Device) -> None:
    table, ids = torch.randn(4, 3).to(device), torch.tensor([1, 9]).to(device)
    good = table * 2
    bad = nn.functional.embedding(ids, table)
    worse = bad + 1

    with pytest.raises(Refused, match=r"aten\.embedding.*index out of range.*test_device\.py:\d+"):
        worse.cpu()
    with pytest.raises(Refused, match=r"aten\.embedding.*index out of range"):
        bad.sum().item()
    assert torch.equal(good.cpu(), table.cpu() * 2)


def test_what_stands_before_operators_is_not_taken_for_the_program(device: Device) -> None:
    table, ids = torch.randn(4, 3).to(device), torch.tensor([1, 9]).to(device)
    hook = Dispatched()
    hook.begin(Gate(memoryview(bytearray(8)).cast("I"), lambda: None))
    try:
        bad = nn.functional.embedding(ids, table)
        with pytest.raises(Refused, match=r"index out of range.*test_device\.py:\d+"):
            bad.cpu()
    finally:
        hook.end()


def test_what_a_failed_operator_was_to_write_to_counts_as_failed(device: Device) -> None:
    x, ids = torch.zeros(3).to(device), torch.tensor([7]).to(device)
    x.sum().item()
    x.index_add_(0, ids, torch.ones(1, device=device))
    with pytest.raises(Refused, match="index_add_"):
        x.cpu()
    with pytest.raises(Refused, match="index_add_"):
        (x + 1).cpu()
    assert torch.ones(1, device=device).item() == 1


def test_a_server_without_room_refuses(server: Server) -> None:
    server.house.room.limit_bytes = 100_000
    with connect(server.address) as remote, remote.device() as device:
        small = torch.ones(10, device=device)
        small.sum().item()
        with pytest.raises(Refused, match=r"no room for .* more: tensors kept on the server"):
            torch.ones(50_000, device=device).sum().item()
        assert small.tolist() == [1] * 10
        assert torch.ones(1000, device=device).sum().item() == 1000


def test_the_room_is_an_option_of_the_server() -> None:
    with Server("tcp://127.0.0.1:0", quotas=Quotas(tensors_bytes=5000)) as server:
        assert server.house.room.limit_bytes == 5000


def test_much_is_sent_without_being_asked_for(
    device: Device, remote: RemoteServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = messages_of(remote, monkeypatch)
    x = torch.zeros(4).to(device)
    for _ in range(9000):
        x = x + 1

    assert len(sent) >= 2
    assert x[0].item() == 9000


def test_an_error_on_the_way_is_told_when_a_value_is_wanted(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("remora.remote.eager.recorder.STREAM", 20)
    x, ids = torch.zeros(3).to(device), torch.tensor([7]).to(device)
    x.index_add_(0, ids, torch.ones(1, device=device))
    y = torch.zeros(4).to(device)
    for _ in range(10):
        y = y + 1
    with pytest.raises(Refused, match="index_add_"):
        device.synchronize()
    assert y[0].item() == 10


def test_threads_use_it_together(device: Device) -> None:
    x, failed = torch.arange(50.0).to(device), []

    def work(number: int) -> None:
        try:
            for turn in range(20):
                y = (x + number) * turn
                assert torch.equal(y.cpu(), (torch.arange(50.0) + number) * turn)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def test_what_goes_there_is_what_it_was_then(device: Device) -> None:
    here = torch.zeros(3)
    there = here.to(device)
    here.fill_(9)
    assert there.tolist() == [0, 0, 0]


def test_a_value_that_came_is_its_own(device: Device) -> None:
    x = torch.zeros(3).to(device)
    came = x.cpu()
    x.fill_(9)
    assert came.tolist() == [0, 0, 0]
    came.fill_(4)
    assert x.tolist() == [9, 9, 9]


def test_put_takes_modules_and_tensors(device: Device) -> None:
    x = torch.randn(3, 3)
    assert torch.equal(device.put(x).cpu(), x)
    assert device.put(nn.Parameter(x)).requires_grad
    there = device.put(x)
    assert device.put(there) is there
    with pytest.raises(BadValue, match=r"put\(\) takes a module or a tensor, not a str"):
        device.put("model")  # type: ignore[type-var]


def test_the_device_goes_wherever_a_device_does(device: Device) -> None:
    assert torch.device(device).type == "remora"
    assert torch.ones(2, device="remora").device.type == "remora"
    with torch.device(device):
        assert torch.ones(2).device == torch.device(device)
    assert torch.ones(2).to(device, torch.float64).dtype == torch.float64


def _until(condition: Callable[[], bool]) -> None:
    for _ in range(200):
        if condition():
            return
        threading.Event().wait(0.02)
    assert condition()
