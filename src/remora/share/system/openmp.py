"""What OpenMP reads of its environment, set before it starts.

Threads of a pool that wait for work spin by default, and hold a core that the other job could have;
a barrier of which one thread is off the CPU makes all others burn theirs. With
``OMP_WAIT_POLICY=PASSIVE`` they sleep. An OpenMP runtime reads it when it is loaded, which torch
does; a process that has loaded one already is started anew, as the same process.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from remora.core.errors import BadValue
from remora.share.system.processes import PROC

_RUNTIMES = ("libgomp", "libiomp5", "libomp.", "libomp-")
_POOLS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def missing(environment: Mapping[str, str], pool: int | None = None) -> dict[str, str]:
    """What is to be set: what the user has set is left, but for the size of pools if asked.

    Raises:
        BadValue: a pool of no threads.
    """
    wanted = {} if "OMP_WAIT_POLICY" in environment else {"OMP_WAIT_POLICY": "PASSIVE"}
    if pool is not None:
        if pool < 1:
            raise BadValue(f"--share-threads {pool}: choose 1 or more threads in each pool")
        wanted |= {name: str(pool) for name in _POOLS if environment.get(name) != str(pool)}
    return wanted


def settle(pool: int | None = None) -> None:
    """Set what is missing; where it comes too late, start this process anew with it set.

    The new one has the same number, parent, files and command line. Only for a process that has
    done nothing yet.
    """
    wanted = missing(os.environ, pool)
    os.environ.update(wanted)  # also what C code finds in its environment
    if wanted and is_loaded():
        os.execv(sys.executable, sys.orig_argv)


def is_loaded(proc: Path = PROC) -> bool:
    """Whether this process has an OpenMP runtime."""
    try:
        maps = (proc / "self" / "maps").read_text(errors="replace")
    except OSError:
        return "torch" in sys.modules
    return any(name in maps for name in _RUNTIMES)
