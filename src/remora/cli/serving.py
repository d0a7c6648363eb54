"""What ``remora serve`` and ``remora fleet up`` have in common: options of servers, and waiting."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from remora.core.errors import BadValue
from remora.core.units import parse_bytes, parse_seconds

if TYPE_CHECKING:
    from remora.remote.server.house import Quotas
    from remora.remote.wire.listener import Certificate
    from remora.share.policies.registry import Choice

Key = Annotated[
    Path | None, typer.Option("--key", metavar="FILE", help="The certificate's private key.")
]
Weights = Annotated[
    str, typer.Option("--weights", metavar="SIZE", help="A server's memory for weights; else half.")
]
WeightsFolder = Annotated[
    Path | None,
    typer.Option(
        "--weights-folder", metavar="FOLDER", help="Keep weights there for the next start too."
    ),
]
Sessions = Annotated[
    str, typer.Option("--sessions", metavar="SIZE", help="Likewise for sessions; else a quarter.")
]
Calls = Annotated[
    str, typer.Option("--calls", metavar="SIZE", help="Likewise for one call; else a quarter.")
]
Tensors = Annotated[
    str,
    typer.Option(
        "--tensors", metavar="SIZE", help="Likewise for what programs keep; else an eighth."
    ),
]
Lease = Annotated[
    str, typer.Option("--lease", metavar="TIME", help="How long a session stays unused.")
]
Compile = Annotated[
    bool, typer.Option("--compile", help="Compile, meanwhile, calls that come again and again.")
]
Policy = Annotated[
    str,
    typer.Option(
        "--policy",
        metavar="POLICY",
        help="Share the device out by it, operator by operator, such as priority+min-wait; "
        "else all take fair turns.",
    ),
]
High = Annotated[
    int,
    typer.Option(
        "--high", metavar="N", min=0, help="High-priority clients at a time; any number by default."
    ),
]
BestEffortSms = Annotated[
    int,
    typer.Option(
        "--best-effort-sms",
        metavar="N",
        min=0,
        help="Of a GPU, with --policy: multiprocessors that best-effort work may use; else all.",
    ),
]
SlicesFolder = Annotated[
    Path | None,
    typer.Option(
        "--slices-folder",
        metavar="FOLDER",
        help="Keep there, and not in the user's cache, how operators are cut.",
    ),
]
LEASE = "10min"


def policy_of(policy: str) -> Choice | None:
    """What ``--policy`` names; none where it is not given."""
    from remora.share.policies.registry import parse_choice

    return parse_choice(policy) if policy else None


def quotas_of(weights: str, sessions: str, calls: str, tensors: str, lease: str) -> Quotas:
    """What the options of those names say."""
    from remora.remote.server.house import Quotas

    return Quotas(
        weights_bytes=parse_bytes(weights) if weights else 0,
        sessions_bytes=parse_bytes(sessions) if sessions else 0,
        call_bytes=parse_bytes(calls) if calls else 0,
        tensors_bytes=parse_bytes(tensors) if tensors else 0,
        lease_s=parse_seconds(lease),
    )


def certificate_of(cert: Path | None, key: Path | None) -> Certificate | None:
    """What ``--cert`` and ``--key`` name; both or neither."""
    from remora.remote.wire.listener import Certificate

    if (cert is None) != (key is None):
        raise BadValue("--cert and --key go together; give both, or neither for no TLS")
    return None if cert is None or key is None else Certificate(cert, key)


def wait_for_the_end(ended: threading.Event) -> None:
    """Wait for ``ended``, Ctrl-C or SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    try:
        ended.wait()
    except KeyboardInterrupt:
        return
