"""``make gpu-check``: every CUDA path, test and benchmark there is, as one table, in 8 minutes.

Runs from a checkout, also where only torch and the test tools are installed. Exits 0 when all
passes and where there is no CUDA device, 1 when something fails.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec


def obstacle() -> str | None:
    """Why nothing can be checked here; None where there is a device to check."""
    if find_spec("torch") is None:
        return "torch is not installed here"
    import torch

    return None if torch.cuda.is_available() else "there is no CUDA device on this machine"


def main() -> int:
    """Run all checks where there is a CUDA device; elsewhere say so, and exit well."""
    if reason := obstacle():
        print(f"gpu-check: {reason}; nothing was checked")
        return 0
    from benchmarks import gpu

    return gpu.main()


if __name__ == "__main__":
    sys.exit(main())
