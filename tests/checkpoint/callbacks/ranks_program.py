"""One of the training programs in a job of several ranks: whole, interrupted and resumed.

``torchrun … -m tests.checkpoint.callbacks.ranks_program PROGRAM FOLDER`` says of each rank if what
it saw after resuming is what an uninterrupted run saw.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

STOPS = (3, 5)


def accelerate(folder: Path) -> None:
    from tests.checkpoint.callbacks.accelerate_program import train

    whole, outcome = train(None)
    for stop in STOPS:
        train(folder / str(stop), stop_at=stop)
        resumed, end = train(folder / str(stop))
        assert len(resumed) < len(whole), "it began anew"
        assert resumed == whole[-len(resumed) :], f"stopped at {stop}: {resumed} of {whole}"
        assert end == outcome, f"stopped at {stop}"


def transformers(folder: Path) -> None:
    from tests.checkpoint.callbacks.trainer_program import outcome, train

    whole = train(None, folder / "out")
    for stop in STOPS:
        train(folder / str(stop), folder / "out", stop_at=stop)
        resumed = train(folder / str(stop), folder / "out")
        assert outcome(resumed) == outcome(whole), f"stopped at {stop}"


def lightning(folder: Path) -> None:
    from tests.checkpoint.callbacks.lightning_program import train

    ranks: dict[str, Any] = {"devices": int(os.environ["WORLD_SIZE"]), "strategy": "ddp"}
    whole = train(None, **ranks)
    for stop in STOPS:
        train(folder / str(stop), stop_at=stop, **ranks)
        resumed = train(folder / str(stop), **ranks)
        assert len(resumed.steps) < len(whole.steps), "it began anew"
        assert resumed.steps == whole.steps[-len(resumed.steps) :], f"stopped at {stop}"
        assert resumed.outcome() == whole.outcome(), f"stopped at {stop}"


if __name__ == "__main__":
    globals()[sys.argv[1]](Path(sys.argv[2]))
    sys.stdout.write(f"rank {os.environ['RANK']} went on as if nothing had happened\n")
