"""The remote service on a device: rows of ``make gpu-check``, each a process of its own.

``python -m benchmarks.gpu_remote decoding cuda:0`` runs one of them, where only torch, transformers
and what Remora itself imports are installed.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from benchmarks import gpu_row

ROW_S = 90.0
"""A row is killed behind so many seconds; on a GPU each takes some ten, most of them imports."""
TOKENS = 24
TIMED_TOKENS = 48
LOGITS = 1e-3
"""Largest difference of logits, as a share of the largest: the server computes by other kernels."""


class Differs(RuntimeError):
    """What came from the server is not what the device gives here."""


@contextmanager
def served(device: str) -> Iterator[Any]:
    """A server of its own process on ``device``, and a connection to it."""
    from remora.remote.client.server import connect
    from remora.systems.remote_process import ServerProcess, Serving

    server = ServerProcess(Serving(device, 1))
    try:
        with connect(server.address, reconnect_s=0) as remote:
            yield remote
    finally:
        server.close()


def decoding(device: str, *, layers: int = 12, width: int = 768) -> str:
    """GPT-2 with random weights: tokens and logits beside those of the same device here."""
    here, ids = _gpt2(layers, width), torch.randint(50257, (1, 32))
    with served(device) as remote:
        model = remote.load(here)
        with torch.no_grad():
            logits = model(ids, use_cache=False, logits_to_keep=1).logits
        local = here.to(device)
        with torch.no_grad():
            wanted = local(ids.to(device), use_cache=False, logits_to_keep=1).logits.cpu()
        differ = _difference(logits, wanted)
        tokens, local_ms = _decoded(local, ids.to(device), device)
        with model.session() as session:
            session.prefill(ids)
            got = list(session.generate(TOKENS))
            list(session.generate(4))
            began = time.perf_counter()
            list(session.generate(TIMED_TOKENS))
            remote_ms = (time.perf_counter() - began) / TIMED_TOKENS * 1e3
    same = _same_tokens(got, tokens[:TOKENS])
    return (
        f"logits differ by {differ:.0e}, {same} of {TOKENS} tokens the same; a token "
        f"{remote_ms:.2f} ms there, {local_ms:.2f} ms here, {remote_ms / local_ms:.2f} ×"
    )


def picture(device: str, *, scale: str = "standard") -> str:
    """ResNet-50's forward beside that of the same device here."""
    from remora.workloads.builder import workload_model

    torch.manual_seed(0)
    here, x = workload_model("resnet50-forward", {"scale": scale}).eval(), _picture(scale)
    with served(device) as remote, torch.no_grad():
        model = remote.load(here)
        got = model(x)
        local = here.to(device)
        differ = _difference(got, local(x.to(device)).cpu())
        remote_ms = _median_ms(lambda: model(x))
        local_ms = _median_ms(lambda: local(x.to(device)).cpu())
    return f"differs by {differ:.0e}; {remote_ms:.2f} ms there, {local_ms:.2f} ms here"


def operators(device: str) -> str:
    """The server as a device of torch: steps of training beside the same steps on the CPU."""
    x, y = torch.randn(64, 32), torch.randint(10, (64,))
    with served(device) as remote, remote.device() as there:
        losses = _trained(x.to(there), y.to(there), there.put)
    wanted = _trained(x, y, lambda model: model)
    worst = max(abs(a - b) / abs(b) for a, b in zip(losses, wanted, strict=True))
    if not worst <= LOGITS:
        raise Differs(f"losses differ by {worst:.1e}: {losses} and {wanted}")
    return f"{len(losses)} steps of training, losses differ by {worst:.0e}"


def eviction(device: str) -> str:
    """A session whose state leaves the device for the host, and comes back for its next token."""
    from remora.remote.client.server import connect
    from remora.remote.server.house import Quotas
    from remora.remote.server.server import Server

    here, ids = _gpt2(2, 128), torch.randint(50257, (1, 64))
    room = 2 * 2 * 128 * 4 * 156  # keys and values of 156 tokens: of either session, not of both
    quotas = Quotas(sessions_bytes=room, host_bytes=2**30, idle_s=0.0)
    with (
        Server("tcp://127.0.0.1:0", device, quotas=quotas) as server,
        connect(server.address, reconnect_s=0) as remote,
    ):
        model = remote.load(here)
        with model.session() as one, model.session() as other:
            one.prefill(ids)
            tokens = list(one.generate(8))
            other.prefill(torch.randint(50257, (1, 96)))
            moved = server.house.sessions.host_bytes
            if not moved:
                raise Differs("no state left the device when another needed its room")
            tokens += list(one.generate(8))
            if one.recoveries:
                raise Differs("the session was read again where its state was to come back")
    same = _same_tokens(tokens, _decoded(here.to(device), ids.to(device), device)[0][:16])
    return f"{moved} bytes went to the host and came back; {same} of 16 tokens the same"


ROWS: dict[str, tuple[str, Callable[[str], str]]] = {
    "decoding": ("remote: GPT-2 decodes on a server", decoding),
    "picture": ("remote: ResNet-50 on a server", picture),
    "operators": ("remote: a server as a device of torch", operators),
    "eviction": ("remote: a session goes to the host and comes back", eviction),
}


def in_a_process(name: str, device: str, limit_s: float) -> str:
    """What the row says, run in a process of its own: torch has one device of a server for each."""
    return gpu_row.in_a_process("benchmarks.gpu_remote", name, device, min(ROW_S, limit_s))


def _gpt2(layers: int, width: int) -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(n_layer=layers, n_embd=width, n_head=width // 64, n_positions=512)
    return GPT2LMHeadModel(config).eval()


@torch.no_grad()
def _decoded(model: Any, ids: torch.Tensor, device: str) -> tuple[list[int], float]:
    """Tokens that greedy decoding gives here, and milliseconds a token, each brought to the host.

    As a program would do it: the next token is asked for when the one before it is known.
    """
    cache, tokens, times = None, list[int](), list[float]()
    for _ in range(TOKENS + TIMED_TOKENS):
        began = time.perf_counter()
        read = model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache, ids = read.past_key_values, read.logits[:, -1:].argmax(-1)
        tokens.append(int(ids))  # which waits for the device
        times.append((time.perf_counter() - began) * 1e3)
    return tokens, statistics.median(times[TOKENS:])


def _same_tokens(got: list[int], wanted: list[int]) -> int:
    """How many come before the first that differs.

    Where two are as likely but for rounding, other kernels may choose the other; then all differ.
    """
    same = next((i for i, (a, b) in enumerate(zip(got, wanted, strict=True)) if a != b), len(got))
    if 2 * same < len(got):
        raise Differs(f"tokens differ from the {same}th on: {got} and {wanted}")
    return same


def _difference(got: torch.Tensor, wanted: torch.Tensor) -> float:
    differ = float((got - wanted).abs().max() / wanted.abs().max())
    if not differ <= LOGITS:
        raise Differs(f"outputs differ by {differ:.1e}")
    return differ


def _picture(scale: str) -> torch.Tensor:
    side = 224 if scale == "standard" else 64
    return torch.randn(1, 3, side, side)


def _trained(x: torch.Tensor, y: torch.Tensor, put: Callable[[Any], Any]) -> list[float]:
    torch.manual_seed(0)
    layers = [torch.nn.Linear(32, 64), torch.nn.LayerNorm(64), torch.nn.GELU()]
    model = put(torch.nn.Sequential(*layers, torch.nn.Linear(64, 10)))
    optimizer, losses = torch.optim.AdamW(model.parameters(), lr=1e-2), list[float]()
    for _ in range(5):
        loss = torch.nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def _median_ms(call: Callable[[], object], calls: int = 9) -> float:
    times = []
    for _ in range(calls):
        began = time.perf_counter()
        call()
        times.append((time.perf_counter() - began) * 1e3)
    return statistics.median(times)


if __name__ == "__main__":
    print(ROWS[sys.argv[1]][1](sys.argv[2]))
