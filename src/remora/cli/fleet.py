"""``remora fleet``: several servers as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from remora.cli.console import plain_console
from remora.cli.serving import (
    LEASE,
    Calls,
    Compile,
    High,
    Key,
    Lease,
    Policy,
    Sessions,
    SlicesFolder,
    Tensors,
    Weights,
    WeightsFolder,
    certificate_of,
    policy_of,
    quotas_of,
    wait_for_the_end,
)
from remora.core.errors import BadValue
from remora.core.saying import say
from remora.core.units import format_bytes, parse_seconds

if TYPE_CHECKING:
    from remora.remote.fleet.messages import Standing
    from remora.remote.fleet.places import Place
    from remora.remote.fleet.running import Plan, RunningFleet
    from remora.remote.fleet.spec import Spec
    from remora.remote.wire.channel import Channel

DEFAULT_ADDRESS = "127.0.0.1:7718"

app = typer.Typer(
    name="fleet",
    help="Run several servers as one, on a Ray cluster or on this machine.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


class On(StrEnum):
    """What runs the servers."""

    RAY = "ray"
    PROCESSES = "processes"


Token = Annotated[
    Path | None,
    typer.Option("--token-file", metavar="FILE", help="What clients must know."),
]
Cert = Annotated[
    Path | None, typer.Option("--cert", metavar="FILE", help="PEM certificate of the fleet: TLS.")
]
At = Annotated[str, typer.Argument(metavar="[ADDRESS]", help="Where the fleet listens.")]


@app.command("up")
def up(
    servers: Annotated[
        int, typer.Option("--servers", metavar="N", min=1, help="How many servers.")
    ],
    on: Annotated[
        On, typer.Option("--on", help="Actors of Ray, or processes of this machine.")
    ] = On.RAY,
    address: Annotated[
        str,
        typer.Option(
            "--address", metavar="RAY_ADDRESS", help="A Ray cluster; else this machine's, or one."
        ),
    ] = "",
    device: Annotated[
        str,
        typer.Option("--device", metavar="DEVICE", help="cpu; cuda: a GPU for each; cuda:0."),
    ] = "cpu",
    listen: Annotated[
        str, typer.Option("--listen", metavar="ADDRESS", help="host:port where clients ask.")
    ] = DEFAULT_ADDRESS,
    token_file: Token = None,
    cert: Cert = None,
    key: Key = None,
    weights: Weights = "",
    weights_folder: WeightsFolder = None,
    sessions: Sessions = "",
    calls: Calls = "",
    tensors: Tensors = "",
    lease: Lease = LEASE,
    threads: Annotated[
        int,
        typer.Option("--threads", metavar="N", min=0, help="CPU threads of each; a share of all."),
    ] = 0,
    compiled: Compile = False,
    policy: Policy = "",
    high: High = 0,
    slices_folder: SlicesFolder = None,
    silent: Annotated[
        str,
        typer.Option("--silent", metavar="TIME", help="A server silent for so long is left out."),
    ] = "5s",
    within: Annotated[
        str, typer.Option("--within", metavar="TIME", help="How long all may take to come.")
    ] = "2min",
) -> None:
    """Start servers and what sends clients to them, until ended.

    A program uses them with remora.connect("fleet://HOST:PORT"), as it would use one server.
    """
    from remora.core.token import read_token_text
    from remora.remote.fleet.devices import spread_over_gpus
    from remora.remote.fleet.probe import Health
    from remora.remote.fleet.running import Plan
    from remora.remote.wire.address import with_scheme

    if address and on is not On.RAY:
        raise BadValue("--address is of a Ray cluster; leave it out with --on processes")
    plan = Plan(
        devices=spread_over_gpus(device, servers, _gpus(on)),
        listen=with_scheme(listen),
        token=read_token_text(token_file),
        certificate=certificate_of(cert, key),
        threads=threads or _share(on, servers),
        quotas=quotas_of(weights, sessions, calls, tensors, lease),
        health=Health(silent_s=parse_seconds(silent)),
        weights_folder=weights_folder,
        compiles=compiled,
        policy=policy_of(policy),
        most_high=high,
        slices_folder=slices_folder,
        builders={"workloads": "remora.workloads.builder:workload_model"},
    )
    with _started(plan, on, address) as fleet:
        fleet.wait(parse_seconds(within))
        _show(fleet.directory.members.standings, fleet.address)
        print("end it with Ctrl-C, or `remora fleet down`", flush=True)
        wait_for_the_end(fleet.directory.ended)


@app.command("status")
def status(at: At = DEFAULT_ADDRESS, token_file: Token = None, cert: Cert = None) -> None:
    """Show each server of a fleet: whether it serves, where, and what it holds.

    Exit code 0: all serve; 1: one does not.
    """
    from remora.remote.fleet.connect import fleet_address
    from remora.remote.fleet.messages import Ask

    with _directory(at, token_file, cert) as channel:
        standings: Sequence[Standing] = channel.call(Ask(), deadline_s=10).message.servers
    _show(standings, fleet_address(_where(at)))
    raise typer.Exit(int(any(each.state != "serving" for each in standings)))


@app.command("drain")
def drain(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A server: server-0.")],
    at: At = DEFAULT_ADDRESS,
    within: Annotated[
        str, typer.Option("--within", metavar="TIME", help="How long its sessions may stay.")
    ] = "10min",
    token_file: Token = None,
    cert: Cert = None,
) -> None:
    """Send no new sessions and calls to a server; then it can be ended, and nobody notices.

    It is left out when its sessions have ended, or time is up. Started again, it serves again.
    """
    from remora.remote.fleet.messages import Drain

    with _directory(at, token_file, cert) as channel:
        channel.call(Drain(name, parse_seconds(within)), deadline_s=10)
    print(f"{name} drains; `remora fleet status` says when it has")


@app.command("down")
def down(at: At = DEFAULT_ADDRESS, token_file: Token = None, cert: Cert = None) -> None:
    """End a fleet, all its servers with it. Whoever may use it may do so."""
    from remora.remote.fleet.connect import fleet_address
    from remora.remote.fleet.messages import End

    with _directory(at, token_file, cert) as channel:
        channel.call(End(), deadline_s=10)
    print(f"the fleet at {fleet_address(_where(at))} ends")


def _started(plan: Plan, on: On, cluster: str) -> RunningFleet:
    from remora.remote.fleet import on_ray
    from remora.remote.fleet.processes import Processes
    from remora.remote.fleet.running import RunningFleet
    from remora.remote.server.device import device_here

    def tell(words: str) -> None:
        say(f"remora: {words}")

    if on is On.PROCESSES:
        for device in set(plan.devices):
            device_here(device)
        return RunningFleet(plan, partial(Processes, told=tell), told=tell)
    on_ray.imported()  # before anything is started
    place: Callable[[Sequence[Spec]], Place] = partial(
        on_ray.RayActors,
        cluster=cluster,
        cpus=plan.threads,
        gpus=int(plan.devices[0].startswith("cuda")),
        is_open=on_ray.is_open(plan.listen),
    )
    return RunningFleet(plan, place, reachable=on_ray.reachable, told=tell)


def _gpus(on: On) -> int:
    """Those that processes share; an actor sees only its own."""
    import torch

    return torch.cuda.device_count() if on is On.PROCESSES else 0


def _share(on: On, servers: int) -> int:
    """CPU threads of each server."""
    import os

    return 1 if on is On.RAY else max(1, (os.cpu_count() or 1) // servers)


def _directory(at: str, token_file: Path | None, cert: Path | None) -> Channel:
    from remora.core.token import read_token_text
    from remora.remote.fleet.calling import Calling, verifying

    return Calling(read_token_text(token_file), verifying(cert)).directory(_where(at))


def _where(at: str) -> str:
    from remora.remote.fleet.connect import directory_of

    return directory_of(at)


def _show(standings: Sequence[Standing], address: str) -> None:
    serving = sum(each.state == "serving" for each in standings)
    table = Table(
        title=f"{address}: {serving} of {len(standings)} serve",
        title_justify="left",
        title_style="bold",
        box=None,
        padding=(0, 2, 0, 0),
    )
    for name in ("server", "state", "address", "device", "process"):
        table.add_column(name, no_wrap=True)
    for name in ("sessions", "weights"):
        table.add_column(name, no_wrap=True, justify="right")
    for each in standings:
        table.add_row(
            each.name,
            each.state,
            each.address.removeprefix("tcp://"),
            each.device,
            str(each.pid or ""),
            str(each.counts.get("sessions", "")),
            format_bytes(each.counts["weights_bytes"]) if "weights_bytes" in each.counts else "",
        )
    plain_console().print(table)
    for each in standings:
        if each.why:
            print(f"{each.name}: {each.why}")
        if each.starts > 1:
            print(f"{each.name}: started {each.starts} times")
