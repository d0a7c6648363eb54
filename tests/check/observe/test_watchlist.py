"""What is watched while learning."""

from __future__ import annotations

import torch  # noqa: F401  its functions are listed

from remora.check.observe.watchlist import public_functions
from remora.tap.job import Job


def test_what_another_service_watches_is_listed_too() -> None:
    bare, job = list(public_functions()), Job()
    try:
        with job.calls.together():
            for name in ("torch.nn.functional.linear", "torch.nn.functional.relu", "torch.matmul"):
                job.calls.watch(name, before=lambda args, kwargs: None)
        assert list(public_functions()) == bare
    finally:
        job.detach_all()
