"""The remote service: what a call costs its caller, decoding together, and who waits for whom.

The server is a process of its own with one thread of compute; the client is here.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from benchmarks.page import table
from remora.remote.client.model import RemoteModel
from remora.remote.client.server import RemoteServer, connect
from remora.systems.remote_process import ServerProcess, Serving

CALLS = 60
SESSIONS = 8
TOKENS = 48
ROUNDS = 5
PROMPT = 1000
CHUNK = 128
"""How much of a prompt a server reads at a time, by default."""


@contextmanager
def served() -> Iterator[RemoteServer]:
    """A server in another process, and a connection to it."""
    server = ServerProcess(Serving("cpu", 1))
    try:
        with connect(server.address, reconnect_s=0) as remote:
            yield remote
    finally:
        server.close()


def gpt2(layers: int, width: int, positions: int = 2048) -> Any:
    """A language model with random weights."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(
        n_layer=layers, n_embd=width, n_head=width // 64, vocab_size=50257, n_positions=positions
    )
    return GPT2LMHeadModel(config).eval()


# ------------------------------------------------- what a call costs its caller


def caller_costs(remote: RemoteServer) -> list[tuple[str, ...]]:
    """For each model: operators, latency, and the caller's own CPU time, milliseconds a call."""
    rows: list[tuple[str, ...]] = []
    for name, model, inputs, named in _models():
        there = remote.load(model)
        for _ in range(3):
            there(*inputs, **named)
        cpu, wall = [], []
        for _ in range(CALLS):
            cpu_ns, began_ns = time.thread_time_ns(), time.perf_counter_ns()
            there(*inputs, **named)
            wall.append((time.perf_counter_ns() - began_ns) / 1e6)
            cpu.append((time.thread_time_ns() - cpu_ns) / 1e6)
        rows.append((name, _nodes(there), f"{statistics.median(wall):.2f}", _middle(cpu)))
    return rows


def _models() -> Iterator[tuple[str, torch.nn.Module, tuple[torch.Tensor, ...], dict[str, Any]]]:
    from remora.workloads.builder import workload_model

    torch.manual_seed(0)
    layers = [torch.nn.Linear(64, 64) for _ in range(3)]
    yield "3 linear layers", torch.nn.Sequential(*layers).eval(), (torch.randn(1, 64),), {}
    images = torch.randn(1, 3, 64, 64)
    yield "ResNet-50, small", workload_model("resnet50-forward", {}).eval(), (images,), {}
    ids = torch.randint(50257, (1, 16))
    yield "GPT-2, 4 layers, 16 tokens, last logits", gpt2(4, 256), (ids,), _LAST
    yield "GPT-2, 12 layers of 768, 16 tokens, last logits", gpt2(12, 768), (ids,), _LAST


_LAST = {"use_cache": False, "logits_to_keep": 1}


def _nodes(model: RemoteModel) -> str:
    graphs: Any = model.graphs
    ((graph,),) = graphs._graphs.values()
    return str(len(graph.captured.graph.nodes))


def _middle(values: list[float]) -> str:
    return f"{statistics.median(values):.3f} ({min(values):.3f})"


# ------------------------------------------------- several sessions at once


def together(remote: RemoteServer, model: RemoteModel) -> tuple[float, float, float]:
    """Tokens a second of all sessions: one after another, together, and the ratio of the two.

    The median over rounds, in each of which both take a turn.
    """
    rates: dict[Callable[[list[Any]], None], list[float]] = {_in_turn: [], _at_once: []}
    sessions = [model.session() for _ in range(SESSIONS)]
    for seed, session in enumerate(sessions):
        session.prefill(torch.randint(50257, (1, 32 + seed)))
    for _ in range(ROUNDS):
        for way, found in rates.items():
            began = time.perf_counter()
            way(sessions)
            found.append(SESSIONS * TOKENS / (time.perf_counter() - began))
            for seed, session in enumerate(sessions):
                session.rewind(32 + seed)
    for session in sessions:
        session.close()
    one, all_at_once = rates.values()
    ratios = [b / a for a, b in zip(one, all_at_once, strict=True)]
    return statistics.median(one), statistics.median(all_at_once), statistics.median(ratios)


def _in_turn(sessions: list[Any]) -> None:
    for session in sessions:
        list(session.generate(TOKENS))


def _at_once(sessions: list[Any]) -> None:
    threads = [
        threading.Thread(target=lambda session=session: list(session.generate(TOKENS)))
        for session in sessions
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# ------------------------------------------------- a long prompt beside a sequence that decodes


def beside_a_prompt(model: RemoteModel) -> tuple[float, float, float]:
    """Milliseconds: a token alone, one chunk alone, and the longest wait for a token meanwhile."""
    with model.session() as session, model.session() as other:
        session.prefill(torch.randint(50257, (1, 32)))
        alone = statistics.median(_waits(session, 40)[1:])
        began = time.perf_counter()
        other.prefill(torch.randint(50257, (1, CHUNK)))
        chunk = (time.perf_counter() - began) * 1e3
        reading = threading.Thread(
            target=other.prefill, args=(torch.randint(50257, (1, PROMPT)),), daemon=True
        )
        reading.start()
        waits = _waits(session, 40, while_alive=reading)
        reading.join()
    return alone, chunk, max(waits[1:])


def _waits(session: Any, count: int, while_alive: threading.Thread | None = None) -> list[float]:
    """Milliseconds from token to token."""
    waits, before = [], time.perf_counter()
    for _ in session.generate(count if while_alive is None else 400):
        now = time.perf_counter()
        waits.append((now - before) * 1e3)
        before = now
        if while_alive is not None and not while_alive.is_alive():
            break
    return waits


def section() -> str:
    """The section's text."""
    with served() as remote:
        costs = caller_costs(remote)
        rows, waits = [], []
        for name, model in (
            ("GPT-2, 2 layers of 128", gpt2(2, 128)),
            ("GPT-2, 4 layers of 256", gpt2(4, 256)),
            ("GPT-2, 12 layers of 768 (124 M)", gpt2(12, 768)),
        ):
            there = remote.load(model)
            one, several, ratio = together(remote, there)
            rows.append((name, f"{one:.0f}", f"{several:.0f}", f"{ratio:.2f} ×"))
            waits.append((name, *(f"{each:.1f}" for each in beside_a_prompt(there))))
    return (
        f"What a call costs its caller beside waiting (CPU time of the calling thread, median and "
        f"minimum of {CALLS} calls, over loopback):\n\n"
        + table(("model", "operators", "latency, ms", "caller, ms"), costs)
        + f"\n{SESSIONS} sessions of {TOKENS} tokens each, tokens a second of all, median of "
        f"{ROUNDS} rounds in which both take a turn:\n\n"
        + table(("model", "one after another", "together", "gain"), rows)
        + f"\nA sequence that decodes while a prompt of {PROMPT} tokens is read in chunks of "
        f"{CHUNK}, milliseconds:\n\n"
        + table(("model", "token alone", "one chunk alone", "longest wait meanwhile"), waits)
    )


if __name__ == "__main__":
    print(section())
