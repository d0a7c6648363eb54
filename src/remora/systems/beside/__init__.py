"""A workload that serves requests as they come, with a best-effort job beside it."""

from remora.systems.beside.system import Beside

__all__ = ["Beside"]
