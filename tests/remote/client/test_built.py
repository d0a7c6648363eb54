"""Models that the server builds: what they give is what they give here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tests.remote.conftest import VOCABULARY, decoded_here, prompt
from tests.remote.graph.language import language_model as language
from tests.remote.graph.language import sound
from tests.remote.graph.test_decoder import decoded_by

from remora.core.errors import BadValue, CannotCapture, Refused, RemoteError
from remora.remote.client.model import RemoteModel
from remora.remote.client.server import RemoteServer, connect
from remora.remote.server import builders
from remora.remote.server.house import Quotas
from remora.remote.server.server import Server
from remora.workloads.builder import workload_model


class Twice(torch.nn.Module):
    """Gives all that can be sent: tensors, constants, lists and dicts of them."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 3)
        self.register_buffer("fixed", torch.arange(3.0), persistent=False)

    def forward(self, x: torch.Tensor, times: int = 2, *, shift: torch.Tensor | None = None) -> Any:
        y = self.layer(x) * times + self.fixed
        return {"y": [y, None, 7], "shifted": y if shift is None else y + shift}


def twice(name: str, config: Mapping[str, Any]) -> torch.nn.Module:
    if name == "branches":
        return Branches()
    return Twice()


class Branches(Twice):
    def forward(self, x: torch.Tensor, times: int = 2, *, shift: torch.Tensor | None = None) -> Any:
        return x if x.sum() > 0 else -x


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    known = {"ours": twice, "workloads": workload_model}
    with Server("tcp://127.0.0.1:0", quotas=Quotas(chunk_tokens=8), builders=known) as server:
        yield server


@pytest.fixture
def remote(server: Server) -> Iterator[RemoteServer]:
    with connect(server.address, reconnect_s=0) as remote:
        yield remote


def ours(remote: RemoteServer, module: torch.nn.Module, name: str = "twice") -> RemoteModel:
    return remote.build(name, {}, module.state_dict(), builder="ours")


@torch.no_grad()
def test_what_it_returns_is_what_the_module_returns(remote: RemoteServer) -> None:
    module, x, shift = Twice(), torch.randn(5, 3), torch.randn(3)
    model = ours(remote, module)
    for given, named in [((x,), {}), ((x, 3), {}), ((x[:1],), {"shift": shift, "times": 4})]:
        there, here = model(*given, **named), module(*given, **named)
        assert torch.equal(there["y"][0], here["y"][0])
        assert torch.equal(there["shifted"], here["shifted"])
        assert there["y"][1:] == [None, 7]


def test_one_kind_of_call_is_captured_once(remote: RemoteServer) -> None:
    model = ours(remote, Twice())
    model(torch.randn(5, 3))
    sent = remote.counted.bytes_sent
    model(torch.randn(9, 3))
    assert remote.counted.bytes_sent - sent < 500


def test_a_language_model_of_transformers(
    remote: RemoteServer, language_model: torch.nn.Module, tmp_path: Path
) -> None:
    config: Any = language_model.config
    here: Any = language_model
    save_file(
        {k: v.clone() for k, v in language_model.state_dict().items() if k != "lm_head.weight"},
        tmp_path / "model.safetensors",
    )  # as transformers saves it: without the weight that is tied to another
    model = remote.build("GPT2LMHeadModel", config, tmp_path)
    with torch.no_grad():
        there = model(prompt(9), use_cache=False)
        assert torch.allclose(there.logits, here(prompt(9), use_cache=False).logits, atol=1e-5)
    assert type(there).__name__ == "CausalLMOutputWithCrossAttentions"
    with model.session() as session:
        session.prefill(prompt(9))
        assert list(session.generate(12)) == decoded_here(language_model, prompt(9), 12)
    (token,) = model.wanted(_token(), args=(prompt(9),), kwargs={"use_cache": False})
    assert int(token) == decoded_here(language_model, prompt(9), 1)[0]
    assert int(token) < VOCABULARY


def _token() -> Any:
    from remora import Wanted

    return Wanted("token")


@pytest.mark.slow
def test_one_that_listens(remote: RemoteServer) -> None:
    whisper: Any = language("whisper")
    model = remote.build("WhisperForConditionalGeneration", whisper.config, whisper.state_dict())
    with model.session(sound(3)) as session:
        session.prefill([1, 5])
        tokens = list(session.generate(5))
    expected = decoded_by(whisper, torch.tensor([[1, 5]]), 5, input_features=sound(3))
    assert tokens == expected[0].tolist()


@pytest.mark.slow
@torch.no_grad()
def test_a_workload(remote: RemoteServer) -> None:
    module = workload_model("resnet50-forward", {"scale": "quick"}).eval()
    model = remote.build("resnet50-forward", {}, module.state_dict(), builder="workloads")
    x = torch.randn(2, 3, 64, 64)
    assert torch.allclose(model(x), module(x), atol=1e-4)


def test_a_lost_connection_builds_it_again(server: Server) -> None:
    with connect(server.address) as remote:
        module = Twice()
        model = ours(remote, module)
        first = model(torch.ones(1, 3))
        remote.channel.link.close()
        assert torch.equal(model(torch.ones(1, 3))["shifted"], first["shifted"])


def test_nothing_is_held_when_the_client_has_gone(server: Server) -> None:
    with connect(server.address) as remote:
        ours(remote, Twice())(torch.ones(1, 3))
        assert any(model.holders for model in server.house.models._models.values())
    for _ in range(100):
        if not any(model.holders for model in server.house.models._models.values()):
            break
        import time

        time.sleep(0.02)
    assert not any(model.holders for model in server.house.models._models.values())


# ---------------------------------------------------------------- what is refused


def weights() -> dict[str, torch.Tensor]:
    return dict(Twice().state_dict())


@pytest.mark.parametrize(
    ("builder", "name", "config", "message"),
    [
        ("nobody", "x", {}, "unknown builder 'nobody'.*choose from: .*transformers"),
        ("transformers", "AutoModel", {}, "'AutoModel' is no model class of transformers"),
        ("transformers", "os.system", {}, "is no model class"),
        ("transformers", "GPT2LMHeadModel", {"auto_map": {"x": "y"}}, "brings code or files"),
        ("transformers", "GPT2LMHeadModel", {"n_embd": 12 * 10**6}, "this server gives"),
        ("transformers", "GPT2LMHeadModel", {"n_layer": 2, "n_embd": "wide"}, "cannot be built"),
        ("workloads", "resnet50-forward", {"scale": "huge"}, "a workload's config is"),
    ],
)
def test_a_recipe_that_cannot_be_followed(
    remote: RemoteServer, builder: str, name: str, config: dict[str, Any], message: str
) -> None:
    with pytest.raises((RemoteError, BadValue), match=message):
        remote.build(name, config, weights(), builder=builder)(torch.ones(1, 3))


def test_a_model_without_end_is_given_up(
    remote: RemoteServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builders, "LONGEST_S", 0.5)
    endless = {"n_layer": 10**9, "n_embd": 12}
    with pytest.raises(Refused, match=r"more than 0\.5 s to build"):
        remote.build("GPT2LMHeadModel", endless, weights())(torch.ones(1, 3))
    assert remote.counts()["models"] >= 0  # it goes on


def test_weights_that_do_not_fit(remote: RemoteServer) -> None:
    lacking = weights()
    del lacking["layer.bias"]
    x = torch.ones(1, 3)
    with pytest.raises(Refused, match=r"the weights of Twice lack layer\.bias"):
        remote.build("twice", {}, lacking, builder="ours")(x)
    with pytest.raises(Refused, match="hold more, which it has not"):
        remote.build("twice", {}, {**weights(), "more": x}, builder="ours")(x)
    with pytest.raises(Refused, match=r"size mismatch for layer\.bias"):
        remote.build("twice", {}, {**weights(), "layer.bias": x}, builder="ours")(x)


def test_what_cannot_be_captured_says_why(remote: RemoteServer) -> None:
    with pytest.raises(CannotCapture, match="Branches cannot be captured"):
        ours(remote, Twice(), "branches")(torch.ones(1, 3))


def test_arguments_that_cannot_be_sent(remote: RemoteServer, tmp_path: Path) -> None:
    model = ours(remote, Twice())
    with pytest.raises(BadValue, match="no lists or dicts"):
        model([torch.ones(1, 3)])
    with pytest.raises(BadValue, match="is a dtype"):
        model(torch.ones(1, 3), torch.float32)
    with pytest.raises(BadValue, match="no plain data"):
        remote.build("twice", {"x": object()}, {}, builder="ours")
    with pytest.raises(BadValue, match=r"holds no \.safetensors file"):
        remote.build("twice", {}, tmp_path, builder="ours")
    with pytest.raises(BadValue, match="cannot be read"):
        remote.build("twice", {}, tmp_path / "absent.safetensors", builder="ours")
