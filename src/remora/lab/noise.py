"""How noisy this machine is right now, by timing the same work over and over."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from remora.core.clock import Clock, SystemClock
from remora.lab.environment import steal_and_total_jiffies, steal_share_since

_WINDOW_S = 0.5


@dataclass(frozen=True)
class Noise:
    """Variation of identical work between windows of half a second."""

    windows: int
    deviation: float
    """Standard deviation of the windows' mean times, as a share of their mean."""
    worst: float
    """The slowest window against the median one, as a share."""
    steal_share: float | None

    @property
    def sentence(self) -> str:
        steal = "" if self.steal_share is None else f"; steal {self.steal_share * 100:.1f} %"
        return (
            f"identical work varied by {self.deviation * 100:.1f} % between half-second windows, "
            f"the slowest {self.worst * 100:+.1f} %{steal}"
        )


def measure_noise(seconds: float, clock: Clock | None = None) -> Noise:
    """Time a fixed matrix product, single-threaded, for ``seconds``."""
    clock = clock or SystemClock()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    jiffies = steal_and_total_jiffies()
    try:
        means = _window_means(seconds, clock)
    finally:
        torch.set_num_threads(threads)
    return Noise(
        windows=len(means),
        deviation=float(means.std(ddof=1) / means.mean()) if len(means) > 1 else 0.0,
        worst=float(means.max() / np.median(means) - 1),
        steal_share=steal_share_since(jiffies),
    )


def _window_means(seconds: float, clock: Clock) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    work = torch.randn(384, 384, generator=torch.Generator().manual_seed(0))
    for _ in range(20):
        work @ work
    means: list[float] = []
    for _ in range(max(1, round(seconds / _WINDOW_S))):
        began_ns, products = clock.wall_ns(), 0
        while clock.wall_ns() - began_ns < _WINDOW_S * 1e9:
            work @ work
            products += 1
        means.append((clock.wall_ns() - began_ns) / max(1, products))
    return np.asarray(means, dtype=np.float64)
