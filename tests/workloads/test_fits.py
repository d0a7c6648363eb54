"""Whether a workload fits is said before it is built, and the prediction is near the truth."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from remora.core.errors import TooLarge
from remora.workloads import registry
from remora.workloads.contract import Footprint
from remora.workloads.fits import arithmetic, check_fits

CPU = torch.device("cpu")


def test_what_does_not_fit_is_refused_with_the_arithmetic() -> None:
    with pytest.raises(TooLarge) as refusal:
        check_fits(registry.get("gpt2-xl-train"), "paper", CPU, available_bytes=22 * 2**30)
    assert str(refusal.value) == (
        "gpt2-xl-train at paper scale needs 5.8 GiB weights + 5.8 GiB gradients + "
        "11.6 GiB optimizer + 18.2 GiB activations = 41.4 GiB; 22.0 GiB is free on cpu; "
        "use --scale standard or a larger machine"
    )


def test_what_fits_to_the_byte_is_let_through() -> None:
    workload = registry.get("vgg16-train")
    total = workload.footprint("quick").total
    assert check_fits(workload, "quick", CPU, available_bytes=total).total == total
    with pytest.raises(TooLarge, match="use a larger machine"):
        check_fits(workload, "quick", CPU, available_bytes=total - 1)


def test_the_sum_leaves_out_what_is_not_there() -> None:
    footprint = Footprint(10, weights=2**20, gradients=0, optimizer=0, activations=2**19)
    assert arithmetic(footprint) == "1.0 MiB weights + 512.0 KiB activations = 1.5 MiB"


_MEASURE = """
import json, sys, psutil, torch
from pathlib import Path
from remora.workloads import registry

def high_water_bytes():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024

torch.set_num_threads(1)
name, scale = sys.argv[1:]
# Once at the smallest scale, so that what libraries keep for themselves is not counted.
session = registry.get(name).build("quick", torch.device("cpu"))
session.step(), session.step()
del session
before = psutil.Process().memory_info().rss
Path("/proc/self/clear_refs").write_text("5")
session = registry.get(name).build(scale, torch.device("cpu"))
for _ in range(2):
    session.step()
print(json.dumps(high_water_bytes() - before))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
@pytest.mark.parametrize(
    "name",
    [
        "vgg16-forward",
        pytest.param("resnet18-train", marks=pytest.mark.slow),
        pytest.param("bert-base-forward", marks=pytest.mark.slow),
    ],
)
def test_prediction_is_within_a_third_of_the_measured_peak(name: str) -> None:
    workload = registry.get(name)
    predicted = workload.footprint("standard").total
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, name, "standard"],
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )
    measured = json.loads(done.stdout)
    assert 0.75 < measured / predicted < 1.34, (measured, predicted)
