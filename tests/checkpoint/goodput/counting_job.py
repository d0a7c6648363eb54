"""A job that counts: a step takes 5 ms, every so many are kept in a file, and it resumes there.

    python counting_job.py FOLDER EVERY [STEPS]

It writes the progress file by itself, as a program that knows nothing of Remora would.
"""

import os
import sys
import time
from pathlib import Path

folder, every = Path(sys.argv[1]), int(sys.argv[2])
last = int(sys.argv[3]) if len(sys.argv) > 3 else sys.maxsize
saved, aside = folder / "saved", folder / "saved.new"
step = int(saved.read_text()) if saved.exists() else 0
with (folder / "progress").open("ab", buffering=0) as progress:
    while step < last:
        time.sleep(0.005)
        if (step + 1) % every == 0:
            aside.write_text(str(step + 1))
            os.replace(aside, saved)  # noqa: PTH105  as such programs do
        progress.write(f"{step} {time.monotonic_ns()}\n".encode())
        step += 1
