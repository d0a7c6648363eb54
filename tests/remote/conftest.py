"""A small language model, and a server to put it on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from remora.remote.client.placed import Placed
from remora.remote.client.server import RemoteServer, connect
from remora.remote.graph.decoder import capture_decoder
from remora.remote.server.house import Quotas
from remora.remote.server.server import Server

VOCABULARY = 61


@pytest.fixture(scope="session")
def language_model() -> torch.nn.Module:
    """GPT-2 with two layers: what it says is drawn, and the same every time."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(
        n_layer=2, n_embd=32, n_head=2, vocab_size=VOCABULARY, n_positions=256,
        bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    model: torch.nn.Module = GPT2LMHeadModel(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)  # so that tokens depend on what came before
    return model


@pytest.fixture(scope="session")
def decoder(language_model: torch.nn.Module) -> Placed:
    """Its step as a graph, captured once for all tests."""
    return Placed(capture_decoder(language_model).captured, decoder=True)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server("tcp://127.0.0.1:0", quotas=Quotas(chunk_tokens=8)) as server:
        yield server


@pytest.fixture
def remote(server: Server) -> Iterator[RemoteServer]:
    with connect(server.address, reconnect_s=0) as remote:
        yield remote


def prompt(length: int, seed: int = 0) -> torch.Tensor:
    """Token ids (1, length)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(VOCABULARY, (1, length), generator=generator)


@torch.no_grad()
def decoded_here(model: torch.nn.Module, ids: torch.Tensor, count: int) -> list[int]:
    """What greedy decoding gives without us, with the cache that the model makes itself."""
    cache, tokens = None, []
    for _ in range(count):
        read: Any = model(input_ids=ids, past_key_values=cache, use_cache=True)
        cache = read.past_key_values
        ids = read.logits[:, -1:].argmax(-1)
        tokens.append(int(ids))
    return tokens
