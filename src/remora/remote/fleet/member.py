"""A server that belongs to a fleet: what runs in each process that a fleet has started."""

from __future__ import annotations

import os
import sys
import threading
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from remora.core.errors import UserError
from remora.remote.fleet.spec import Spec

if TYPE_CHECKING:
    from remora.remote.server.builders import Builder

REFUSED = 2
"""The exit code of one that would not start another time either; why is on standard output."""


class Member:
    """A server, joined to its fleet. A context manager.

    Raises:
        UserError: it cannot serve: no such device, no such address.
    """

    def __init__(self, spec: Spec) -> None:
        import torch

        from remora.remote.fleet.calling import Calling, verifying
        from remora.remote.fleet.messages import Join
        from remora.remote.fleet.registration import Registration
        from remora.remote.server.device import device_here
        from remora.remote.server.server import Server
        from remora.share.policies.registry import parse_choice
        from remora.share.slicing.cache import default_folder

        if spec.threads:
            torch.set_num_threads(spec.threads)
        self.ended = threading.Event()
        """Set when it is to end, or the directory does not take it."""
        self.why = ""
        """Why the directory does not."""
        self._server = Server(
            spec.listen,
            device_here(spec.device),
            token=spec.token,
            certificate=spec.proof,
            quotas=spec.quotas,
            weights_folder=Path(spec.weights_folder) if spec.weights_folder else None,
            builders={name: _imported(where) for name, where in spec.builders.items()},
            compiles=spec.compiles,
            policy=parse_choice(spec.policy) if spec.policy else None,
            most_high=spec.most_high,
            slices_folder=Path(spec.slices_folder) if spec.slices_folder else default_folder(),
            troubled=_print,
        )
        tls = verifying(Path(spec.certificate) if spec.certificate else None)
        self._registration = Registration(
            lambda: Calling(spec.token, tls).directory(spec.directory),
            Join(
                spec.name,
                self._server.address,
                spec.secret,
                device=spec.device,
                pid=os.getpid(),
            ),
            refused=self._is_refused,
        )

    def is_idle(self) -> bool:
        """Whether nobody waits for it."""
        return self._server.house.is_idle()

    def close(self) -> None:
        """Leave the fleet and end. May be called again."""
        self._registration.close()
        self._server.close()

    def __enter__(self) -> Member:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _is_refused(self, why: str) -> None:
        self.why = why
        self.ended.set()


def main() -> int:
    """Serve as the line on standard input says, until standard input ends.

    So it ends with whoever started it, however that one ends.
    """
    from remora.remote.server.garbage import collected_while_idle

    spec = Spec.decoded(sys.stdin.readline())
    try:
        with Member(spec) as member, collected_while_idle(member.is_idle):
            threading.Thread(target=_end_with_input, args=(member,), daemon=True).start()
            member.ended.wait()
    except UserError as error:
        print(error, flush=True)
        return REFUSED
    if member.why:
        print(member.why, flush=True)
        return REFUSED
    return 0


def _end_with_input(member: Member) -> None:
    while os.read(sys.stdin.fileno(), 4096):  # not through sys.stdin: its lock outlives main()
        pass
    member.ended.set()


def _imported(where: str) -> Builder:
    module, name = where.split(":")
    builder: Builder = getattr(import_module(module), name)
    return builder


def _print(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
