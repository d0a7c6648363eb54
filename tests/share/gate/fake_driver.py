"""A device with streams, whose time a test moves: each takes work and does it in order."""

from __future__ import annotations

from collections.abc import Sequence

from remora.share.gate.driver import Driver, Mark


class FakeDevice:
    """Time in nanoseconds, the same for the device and the program."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.free_ns: dict[str, int] = {}
        """When each stream is done with what it has been given."""
        self.writes: list[tuple[int, memoryview, int, int]] = []

    def behind(self, stream: str) -> int:
        """When the device is where ``stream`` has been given something now."""
        return max(self.now_ns, self.free_ns.get(stream, 0))

    def issue(self, takes_ns: int, stream: str = "a") -> None:
        self.free_ns[stream] = self.behind(stream) + takes_ns

    def in_flight_ns(self, stream: str = "a") -> int:
        return self.behind(stream) - self.now_ns

    def move_to(self, now_ns: int) -> None:
        self.now_ns = max(self.now_ns, now_ns)
        for due in sorted(each for each in self.writes if each[0] <= self.now_ns):
            self.writes.remove(due)
            _, words, at, value = due
            words[at] = value


class FakeMark(Mark):
    def __init__(self, device: FakeDevice, at_ns: int) -> None:
        self._device, self.at_ns = device, at_ns

    def is_reached(self) -> bool:
        return self._device.now_ns >= self.at_ns

    def wait(self) -> None:
        self._device.move_to(self.at_ns)


class FakeDriver(Driver):
    """One thread's view: what it issues goes to ``stream``."""

    device = "fake"

    def __init__(self, device: FakeDevice | None = None) -> None:
        self.on = device or FakeDevice()
        self.stream = "a"
        self.capturing = False
        self.marks = 0
        self._last_ns = 0

    def mark(self) -> Mark:
        assert not self.capturing
        self.marks += 1
        return FakeMark(self.on, self.on.behind(self.stream))

    def elapsed_ns(self, first: Mark, last: Mark) -> int:
        assert isinstance(first, FakeMark)
        assert isinstance(last, FakeMark)
        assert first.is_reached()
        assert last.is_reached()
        return last.at_ns - first.at_ns

    def write_behind(self, words: memoryview, at: int, value: int, after: Sequence[Mark]) -> None:
        assert not self.capturing
        places = [each.at_ns for each in after if isinstance(each, FakeMark)]
        self._last_ns = max([self.on.behind(self.stream), self._last_ns, *places])
        self.on.writes.append((self._last_ns, words, at, value))
        self.on.move_to(self.on.now_ns)

    def is_capturing(self) -> bool:
        return self.capturing
