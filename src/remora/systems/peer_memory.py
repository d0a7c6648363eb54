"""The peer that holds checkpoints in its memory: a program of its own, with nothing to import.

``python peer_memory.py PORT`` connects to ``PORT`` of this host and then receives, again and again,
a length of 8 bytes and so many bytes, and answers each with one byte once it holds them all. The
last two checkpoints are kept. It ends when the connection does.
"""

from __future__ import annotations

import socket
import sys

LENGTH_BYTES = 8
ACKNOWLEDGED = b"\x06"
KEPT = 2


def serve(connection: socket.socket) -> None:
    """Hold what comes until the other side has gone."""
    slots = [bytearray() for _ in range(KEPT)]
    turn = 0
    while True:
        header = bytearray(LENGTH_BYTES)
        if not _received(connection, memoryview(header)):
            return
        size = int.from_bytes(header, "little")
        if len(slots[turn]) != size:
            slots[turn] = bytearray(size)
        if not _received(connection, memoryview(slots[turn])):
            return
        connection.sendall(ACKNOWLEDGED)
        turn = (turn + 1) % KEPT


def _received(connection: socket.socket, buffer: memoryview) -> bool:
    """Whether ``buffer`` was filled before the other side went."""
    done = 0
    while done < len(buffer):
        count = connection.recv_into(buffer[done:])
        if not count:
            return False
        done += count
    return True


if __name__ == "__main__":
    with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as channel:
        serve(channel)
