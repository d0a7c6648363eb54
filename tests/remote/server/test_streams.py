"""On which stream a class computes, with a stand-in for ``torch.cuda``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from remora.core.errors import BadValue, Unavailable
from remora.remote.server.house import House
from remora.remote.server.server import Server
from remora.remote.server.streams import CudaStreams, Streams, streams_for
from remora.share.policies.contract import Priority

GPU = torch.device("cuda", 1)


class FakeStream:
    def __init__(self, device: object, priority: int = 0) -> None:
        self.device, self.priority = device, priority
        self.waits_for: list[object] = []

    @staticmethod
    def priority_range() -> tuple[int, int]:
        return 0, -5

    def wait_stream(self, other: object) -> None:
        self.waits_for.append(other)


class Part:
    """A green context."""

    def __init__(self, cuda: Cuda, sms: int) -> None:
        self._cuda, self.sms, self.stream = cuda, sms, FakeStream(GPU)

    def set_context(self) -> None:
        self._cuda.current.append(self.stream)

    def pop_context(self) -> None:
        self._cuda.current.pop()


class Cuda:
    Stream = FakeStream

    def __init__(self, *, has_parts: bool = True, refuses: bool = False) -> None:
        self.default = FakeStream(GPU)
        self.current = [self.default]
        self.parts: list[Part] = []
        self._refuses = refuses
        self.green_contexts = SimpleNamespace(
            SUPPORTED=has_parts, GreenContext=SimpleNamespace(create=self._create)
        )

    def _create(self, *, num_sms: int, device_id: int) -> Part:
        if self._refuses:
            raise RuntimeError("invalid resource configuration\nmore of it")
        assert device_id == 1
        self.parts.append(Part(self, num_sms))
        return self.parts[-1]

    def default_stream(self, device: object) -> FakeStream:
        return self.default

    def current_stream(self, device: object) -> FakeStream:
        return self.current[-1]

    def get_device_properties(self, device: object) -> Any:
        return SimpleNamespace(multi_processor_count=132)

    @contextlib.contextmanager
    def stream(self, stream: FakeStream) -> Iterator[None]:
        self.current.append(stream)
        yield
        self.current.pop()


def test_each_class_has_a_stream_of_its_priority_behind_what_others_issued() -> None:
    cuda = Cuda()
    streams = CudaStreams(GPU, cuda=cuda)
    for priority, wanted in ((Priority.HIGH, -5), (Priority.BEST_EFFORT, 0)):
        with streams.of(priority):
            assert cuda.current[-1] is not cuda.default
            assert (cuda.current[-1].device, cuda.current[-1].priority) == (GPU, wanted)
            assert cuda.current[-1].waits_for == [cuda.default]
        assert cuda.current == [cuda.default]


def test_best_effort_may_be_kept_to_a_part() -> None:
    cuda = Cuda()
    streams = CudaStreams(GPU, 16, cuda)
    [part] = cuda.parts
    assert part.sms == 16
    with streams.of(Priority.BEST_EFFORT):
        assert cuda.current[-1] is part.stream
        assert part.stream.waits_for == [cuda.default]
    with streams.of(Priority.HIGH):
        assert cuda.current[-1] is not part.stream
    with pytest.raises(KeyError), streams.of(Priority.BEST_EFFORT):
        raise KeyError
    assert cuda.current == [cuda.default]


@pytest.mark.parametrize(
    ("cuda", "said"),
    [
        (Cuda(has_parts=False), "has no green contexts; leave it out"),
        (Cuda(refuses=True), "invalid resource configuration; choose a multiple of 8 below 132"),
    ],
)
def test_where_there_is_no_part_one_line_says_so(cuda: Cuda, said: str) -> None:
    with pytest.raises(Unavailable, match=said) as caught:
        CudaStreams(GPU, 16, cuda)
    assert "\n" not in str(caught.value)


def test_of_a_cpu_there_is_one_for_all() -> None:
    streams = streams_for(torch.device("cpu"))
    assert type(streams) is Streams
    with streams.of(Priority.HIGH):
        pass
    with pytest.raises(BadValue, match="cpu has no multiprocessors; leave it out"):
        streams_for(torch.device("cpu"), 8)


def test_a_part_needs_a_policy() -> None:
    with pytest.raises(BadValue, match="add --policy, such as priority"):
        House(torch.device("cpu"), best_effort_sms=8)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("sms", [0, 16])
def test_a_server_computes_on_a_device_for_either_class(sms: int) -> None:
    from remora.remote.client.server import connect
    from remora.share.policies.registry import parse_choice

    model, x = torch.nn.Linear(64, 64).eval(), torch.randn(8, 64)
    try:
        server = Server(
            "tcp://127.0.0.1:0", "cuda:0", policy=parse_choice("priority"), best_effort_sms=sms
        )
    except Unavailable as error:
        pytest.skip(str(error))
    with server, torch.no_grad():
        for priority in Priority:
            with connect(server.address, reconnect_s=0, priority=priority) as remote:
                there = remote.load(model)
                for _ in range(3):
                    assert torch.allclose(there(x), model(x), atol=1e-3)
