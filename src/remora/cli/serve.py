"""``remora serve``: run models for programs that are elsewhere."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Annotated

import typer

from remora.cli.serving import (
    LEASE,
    BestEffortSms,
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
from remora.core.units import format_bytes


def serve(
    device: Annotated[
        str, typer.Option("--device", metavar="DEVICE", help="Where models run: cpu, cuda:0.")
    ] = "cpu",
    listen: Annotated[
        str,
        typer.Option("--listen", metavar="ADDRESS", help="host:port, or unix:///path of a socket."),
    ] = "127.0.0.1:7717",
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file", metavar="FILE", help="What clients must know; needed off loopback."
        ),
    ] = None,
    cert: Annotated[
        Path | None,
        typer.Option("--cert", metavar="FILE", help="PEM certificate: TLS, with --key."),
    ] = None,
    key: Key = None,
    weights: Weights = "",
    weights_folder: WeightsFolder = None,
    sessions: Sessions = "",
    calls: Calls = "",
    tensors: Tensors = "",
    lease: Lease = LEASE,
    threads: Annotated[
        int,
        typer.Option("--threads", metavar="N", help="CPU threads of an operator; all by default."),
    ] = 0,
    compiled: Compile = False,
    policy: Policy = "",
    high: High = 0,
    best_effort_sms: BestEffortSms = 0,
    slices_folder: SlicesFolder = None,
) -> None:
    """Run models for programs that connect, until ended.

    A program puts one here with remora.connect("tcp://HOST:PORT").load(model).
    """
    import torch

    from remora.core.token import read_token_text
    from remora.remote.server.device import device_here
    from remora.remote.server.garbage import collected_while_idle
    from remora.remote.server.server import Server
    from remora.remote.wire.address import with_scheme
    from remora.share.slicing.cache import default_folder
    from remora.workloads.builder import workload_model

    if threads:
        torch.set_num_threads(threads)
    server = Server(
        with_scheme(listen),
        device_here(device),
        token=read_token_text(token_file),
        certificate=certificate_of(cert, key),
        quotas=quotas_of(weights, sessions, calls, tensors, lease),
        weights_folder=weights_folder,
        builders={"workloads": workload_model},
        compiles=compiled,
        policy=policy_of(policy),
        most_high=high,
        best_effort_sms=best_effort_sms,
        slices_folder=slices_folder or default_folder(),
        troubled=lambda words: print(words, flush=True),
    )
    with server, collected_while_idle(server.house.is_idle):
        quotas = server.house.quotas
        print(
            f"serving {server.house.device} on {server.address}: "
            f"{format_bytes(quotas.weights_bytes)} for weights, "
            f"{format_bytes(quotas.sessions_bytes)} for sessions"
            f"{f'; policy {policy}' if policy else ''}; end it with Ctrl-C",
            flush=True,
        )
        wait_for_the_end(threading.Event())
