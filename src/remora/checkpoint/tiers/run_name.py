"""Which run a checkpoint folder is of: a name that goes with it from one job to the next."""

from __future__ import annotations

import re
import secrets
import threading

from remora.checkpoint.storage.contract import Storage

FILE = "run"
_NAME = re.compile(r"[0-9a-f]{16}")


class RunName:
    """The name in ``storage``'s file ``run``; made when it is first asked for, by one thread."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._making = threading.Lock()

    def __call__(self) -> str:
        """The name.

        Raises:
            OSError: it cannot be written.
        """
        with self._making:
            found = self._read()
            if found is None:
                found = secrets.token_hex(8)
                self.become(found)
            return found

    def become(self, name: str) -> None:
        """Go on with the run ``name``; durable on return."""
        with self._storage.open(FILE, create=True) as file:
            file.pwrite(memoryview(name.encode()), 0)
            file.fdatasync()
        self._storage.sync_names()

    def _read(self) -> str | None:
        """None where there is none, or a crash has torn it."""
        room = memoryview(bytearray(16))
        try:
            with self._storage.open(FILE) as file:
                read = file.pread(room, 0)
        except FileNotFoundError:
            return None
        text = bytes(room[:read]).decode("ascii", "replace")
        return text if _NAME.fullmatch(text) else None
