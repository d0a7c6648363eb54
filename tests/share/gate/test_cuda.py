"""What is asked of CUDA, with a stand-in for it; on a device where there is one."""

from __future__ import annotations

import ctypes
import mmap
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.share.gate.members import Members
from tests.share.system.jobs import wait_until

from remora.core.errors import Unavailable
from remora.share.gate.cuda import CudaDriver, CudaMark
from remora.share.gate.device import cuda_in_use
from remora.share.gate.driver import CpuDriver
from remora.share.gate.event_writes import EventWrites
from remora.share.gate.in_flight import InFlight
from remora.share.gate.memory import Memory
from remora.share.gate.serving import Serving
from remora.share.gate.stream_writes import StreamWrites
from remora.share.system.roster import Roster


class Library:
    """A stand-in for CUDA's driver library: registers one page, and writes at once."""

    SHIFT = 1 << 40
    """Addresses on the device are others than here."""

    def __init__(self, **results: int) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self._results, self.arrives = results, True
        for name in ("cuMemHostRegister_v2", "cuMemHostGetDevicePointer_v2"):
            setattr(self, name, self._made(name, lambda *_: None))
        self.cuStreamWriteValue32_v2 = self._made("cuStreamWriteValue32_v2", self._write)
        self.cuMemHostGetDevicePointer_v2 = self._made("cuMemHostGetDevicePointer_v2", self._locate)

    def _made(self, name: str, act: Callable[..., object]) -> Callable[..., int]:
        def function(*arguments: Any) -> int:
            self.calls.append((name, arguments))
            result = self._results.get(name, 0)
            if not result:
                act(*arguments)
            return result

        return function

    def _locate(self, found: Any, address: int, flags: int) -> None:
        found._obj.value = address + self.SHIFT

    def _write(self, stream: int, address: int, value: int, flags: int) -> None:
        if self.arrives:
            ctypes.c_uint32.from_address(address - self.SHIFT).value = value

    def named(self, name: str) -> list[tuple[Any, ...]]:
        return [arguments for each, arguments in self.calls if each == name]


@pytest.fixture
def page() -> tuple[mmap.mmap, int]:
    made = mmap.mmap(-1, 4096)
    return made, ctypes.addressof(ctypes.c_char.from_buffer(made))


def test_a_page_is_registered_tried_and_written_by_its_address_on_the_device(
    page: tuple[mmap.mmap, int],
) -> None:
    memory, address = page
    library = Library()
    writes = StreamWrites(address, 7, library)
    assert library.named("cuMemHostRegister_v2") == [(address, 4096, 3)]
    [(stream, tried, value, flags)] = library.named("cuStreamWriteValue32_v2")
    assert (stream, flags) == (7, 0)
    assert Library.SHIFT + address + 3840 <= tried < Library.SHIFT + address + 4096
    assert value
    writes.write(9, address + 68, 5)
    assert library.calls[-1][1] == (9, Library.SHIFT + address + 68, 5, 0)
    assert memory[68] == 5


def test_a_page_that_is_registered_already_will_do(page: tuple[mmap.mmap, int]) -> None:
    StreamWrites(page[1], 0, Library(cuMemHostRegister_v2=712))


@pytest.mark.parametrize(
    ("failing", "said"),
    [
        ("cuMemHostRegister_v2", "cuMemHostRegister: the driver says 801"),
        ("cuMemHostGetDevicePointer_v2", "cuMemHostGetDevicePointer: the driver says 801"),
        ("cuStreamWriteValue32_v2", "cuStreamWriteValue32: the driver says 801"),
    ],
)
def test_where_the_driver_refuses_that_is_said(
    failing: str, said: str, page: tuple[mmap.mmap, int]
) -> None:
    with pytest.raises(Unavailable, match=said):
        StreamWrites(page[1], 0, Library(**{failing: 801}))


def test_a_driver_without_them_is_none(page: tuple[mmap.mmap, int]) -> None:
    with pytest.raises(Unavailable, match="cuMemHostRegister_v2: this driver has none"):
        StreamWrites(page[1], 0, SimpleNamespace())


def test_a_write_that_never_arrives_is_none(
    page: tuple[mmap.mmap, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("remora.share.gate.stream_writes._PATIENCE_S", 0.0)
    library = Library()
    library.arrives = False
    with pytest.raises(Unavailable, match="did not arrive"):
        StreamWrites(page[1], 0, library)


# ---------------------------------------------------------------- torch.cuda, stood in for


class Stream:
    def __init__(self, number: int) -> None:
        self.cuda_stream = number
        self.waited_for: list[Event] = []

    def wait_event(self, event: Event) -> None:
        self.waited_for.append(event)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and other.cuda_stream == self.cuda_stream

    __hash__ = None  # type: ignore[assignment]


class Event:
    def __init__(self, enable_timing: bool = False) -> None:
        self.timed, self.stream = enable_timing, Stream(-1)
        self.reached = threading.Event()

    def record(self, stream: Stream) -> None:
        self.stream = stream

    def query(self) -> bool:
        return self.reached.is_set()

    def synchronize(self) -> None:
        self.reached.wait()

    def elapsed_time(self, other: Event) -> float:
        return 1.5


class Cuda:
    """As much of ``torch.cuda`` as is asked for."""

    Event = Event

    def __init__(self) -> None:
        self.stream, self.capturing, self.initialized = Stream(7), False, True
        self.held = [0, 0]

    def current_stream(self, device: int) -> Stream:
        return self.stream

    def get_device_properties(self, device: int) -> Any:
        return SimpleNamespace(uuid=f"0000-{device}")

    def is_current_stream_capturing(self) -> bool:
        return self.capturing

    def is_initialized(self) -> bool:
        return self.initialized

    def device_count(self) -> int:
        assert self.initialized, "this would begin CUDA"
        return len(self.held)

    def memory_reserved(self, device: int) -> int:
        return self.held[device]


def words() -> memoryview:
    return memoryview(mmap.mmap(-1, 4096))[64:128].cast("I")


def driver_of(cuda: Cuda, library: Library) -> CudaDriver:
    return CudaDriver(1, cuda, lambda page, stream: StreamWrites(page, stream, library))


def test_the_device_writes_behind_the_stream_that_is_current() -> None:
    cuda, library, pairs = Cuda(), Library(), words()
    driver = driver_of(cuda, library)
    assert (driver.device, driver.writes_by) == ("0000-1", "nothing")
    driver.write_behind(pairs, 3, 5, ())
    assert (pairs[3], driver.writes_by) == (5, "device")
    assert library.calls[-1][1][0] == 7
    assert len(library.named("cuMemHostRegister_v2")) == 1
    driver.write_behind(pairs, 3, 6, ())
    assert len(library.named("cuMemHostRegister_v2")) == 1
    assert cuda.stream.waited_for == []


def test_a_write_waits_for_the_marks_of_other_streams_and_for_the_last_write() -> None:
    cuda, pairs = Cuda(), words()
    driver = driver_of(cuda, Library())
    driver.write_behind(pairs, 1, 1, ())
    on_first = driver.mark()
    cuda.stream = Stream(8)
    own = driver.mark()
    driver.write_behind(pairs, 1, 2, [on_first, own])
    assert [event.stream.cuda_stream for event in cuda.stream.waited_for] == [7, 7]


def test_where_the_device_cannot_write_a_thread_does_behind_all_marks() -> None:
    cuda, pairs = Cuda(), words()
    driver = driver_of(cuda, Library(cuMemHostRegister_v2=801))
    other = driver.mark()
    driver.write_behind(pairs, 1, 1, [other])
    assert driver.writes_by == "events"
    assert isinstance(other, CudaMark)
    assert pairs[1] == 0
    other.event.reached.set()
    assert pairs[1] == 0  # its own mark is not reached
    driver._by_events = None


def test_a_thread_writes_in_order() -> None:
    pairs, first, second = words(), CudaMark(Event(), None), CudaMark(Event(), None)
    writes = EventWrites()
    writes.write([first], pairs, 1, 1)
    writes.write([second], pairs, 1, 2)
    second.event.reached.set()
    assert pairs[1] == 0
    first.event.reached.set()
    wait_until(lambda: pairs[1] == 2, 5)


def test_marks_are_timed_events_on_the_current_stream() -> None:
    cuda = Cuda()
    driver = driver_of(cuda, Library())
    first, last = driver.mark(), driver.mark()
    assert isinstance(first, CudaMark)
    assert (first.event.timed, first.event.stream) == (True, cuda.stream)
    assert not first.is_reached()
    first.event.reached.set()
    first.wait()
    assert first.is_reached()
    assert driver.elapsed_ns(first, last) == 1_500_000
    with pytest.raises(TypeError, match="marks of another driver"):
        driver.elapsed_ns(first, CpuDriver().mark())


def test_whether_work_is_recorded_is_what_torch_says() -> None:
    cuda = Cuda()
    driver = driver_of(cuda, Library())
    assert not driver.is_capturing()
    cuda.capturing = True
    assert driver.is_capturing()


def test_the_device_in_use_is_the_one_with_most_memory_and_cuda_is_never_begun() -> None:
    cuda = Cuda()
    assert cuda_in_use(SimpleNamespace(cuda=cuda)) is None
    cuda.held = [5, 900]
    assert cuda_in_use(SimpleNamespace(cuda=cuda)) == 1
    cuda.initialized = False
    assert cuda_in_use(SimpleNamespace(cuda=cuda)) is None
    assert cuda_in_use(SimpleNamespace()) is None


# ---------------------------------------------------------------- on a device

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


@pytest.mark.cuda
@needs_cuda
def test_a_device_opens_the_gate_when_it_is_done(roster: Roster, members: Members) -> None:
    driver = CudaDriver(0)
    slot = Memory(roster, driver.device).take(members.join())
    assert slot is not None
    serving = Serving(slot, driver)
    for _ in range(3):
        x = torch.randn(8192, 8192, device="cuda:0")
        torch.cuda.synchronize()
        serving.begins()
        for _ in range(50):
            x = x @ x * 1e-4
        serving.ends()
        assert slot.is_shut
        torch.cuda.synchronize()
        wait_until(lambda: not slot.is_shut, 5)
    assert driver.writes_by in ("device", "events")


@pytest.mark.cuda
@needs_cuda
def test_on_a_device_requests_on_two_streams_never_leave_it_shut(
    roster: Roster, members: Members
) -> None:
    driver = CudaDriver(0)
    slot = Memory(roster, driver.device).take(members.join())
    assert slot is not None
    serving, streams = Serving(slot, driver), [torch.cuda.Stream() for _ in range(2)]
    x = torch.randn(2048, 2048, device="cuda:0")
    torch.cuda.synchronize()
    for number in range(20):
        with torch.cuda.stream(streams[number % 2]):
            serving.begins()
            for _ in range(1 if number % 2 else 20):
                _ = x @ x
            serving.ends()
    torch.cuda.synchronize()
    wait_until(lambda: not slot.is_shut, 5)


@pytest.mark.cuda
@needs_cuda
def test_on_a_device_what_is_in_flight_stays_near_the_bound() -> None:
    driver = CudaDriver(0)
    cap = InFlight(driver, 1_000_000)
    x = torch.randn(1024, 1024, device="cuda:0")
    left_ms = []
    for number in range(2000):
        cap.make_room()
        _ = x @ x
        cap.issue()
        if number > 500 and number % 100 == 0:
            behind, began = driver.mark(), time.perf_counter()
            behind.wait()
            left_ms.append((time.perf_counter() - began) * 1e3)
    assert sorted(left_ms)[len(left_ms) // 2] < 3
