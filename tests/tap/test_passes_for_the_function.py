"""A watched function passes for the bare one where a program, or torch, asks which it is."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention.bias import causal_lower_right
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import remora
from remora.tap.job import Job
from remora.tap.undisturbed import unseen

WATCHED = (
    "torch.nn.functional.linear",
    "torch.nn.functional.conv1d",
    "torch.nn.functional.gelu",
    "torch.nn.functional.relu",
    "torch.nn.functional.scaled_dot_product_attention",
    "torch.nn.Linear.forward",
)


@pytest.fixture
def seen(job: Job) -> list[str]:
    """The calls seen so far; to see one, its watcher asks everything of what it was given."""
    calls: list[str] = []

    def ask(one: torch.Tensor) -> None:
        _ = one.shape, one.dtype, one.numel(), one.detach(), one.isfinite()

    def watch(name: str) -> None:
        def before(args: Any, kwargs: Any) -> None:
            calls.append(name.rpartition(".")[2])
            for one in args:
                if isinstance(one, torch.Tensor):
                    unseen(ask, one)

        job.calls.watch(name, before=before, after=lambda token, result: None)

    with job.calls.together():
        for name in WATCHED:
            watch(name)
    return calls


Activation = Callable[[torch.Tensor], torch.Tensor]


@pytest.mark.parametrize("activation", ["relu", "gelu", "default", "by name"])
def test_an_encoder_layer_takes_its_fast_path(seen: list[str], activation: str) -> None:
    given = {"relu": F.relu, "gelu": F.gelu, "by name": "gelu"}.get(activation)
    more: dict[str, Any] = {} if given is None else {"activation": given}
    layer = nn.TransformerEncoderLayer(8, 2, 8, batch_first=True, **more).eval()
    with torch.no_grad():
        layer(torch.ones(1, 3, 8))
    assert layer.activation_relu_or_gelu == (1 if activation in ("relu", "default") else 2)
    assert seen == []
    pickle.loads(pickle.dumps(layer))


def test_a_default_is_put_back(job: Job) -> None:
    constructor: Any = nn.TransformerEncoderLayer.__init__
    before = constructor.__defaults__
    subscription = job.calls.watch("torch.nn.functional.relu", before=lambda a, k: None)
    assert any(one is F.relu for one in constructor.__defaults__)
    assert constructor.__defaults__ != before
    subscription.remove()
    assert all(a is b for a, b in zip(constructor.__defaults__, before, strict=True))


def test_a_built_in_function_binds_to_no_instance(seen: list[str]) -> None:
    class Block(nn.Module):
        act: Any = F.gelu
        convolve: Any = F.conv1d

        def forward(self, x: torch.Tensor) -> Any:
            return self.act(self.convolve(x, x))

    assert Block()(torch.ones(1, 1, 3)).item() == pytest.approx(F.gelu(torch.tensor(3.0)).item())
    assert seen == ["conv1d", "gelu", "gelu"]
    assert pickle.loads(pickle.dumps(F.gelu)) is F.gelu
    assert F.gelu.__name__ == "gelu"


def test_those_who_take_calls_over_are_told_which_by_name(seen: list[str]) -> None:
    told: list[Any] = []

    class Mode(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            told.append(func)
            return func(*args, **(kwargs or {}))

    x = torch.ones(1, 1, 3)
    with Mode():
        F.linear(x, weight=x[0])
        F.conv1d(x, x)
        F.relu(x)

    assert [one for one in told if one in (F.linear, F.conv1d, F.relu)] == [
        F.linear, F.conv1d, F.relu,
    ]  # fmt: skip
    assert seen == ["linear", "conv1d", "relu"]
    assert len(told) <= 5  # ours, relu's own operator, and the index above


def test_a_subclass_takes_over_what_it_names(seen: list[str]) -> None:
    class Ours(torch.Tensor):
        @classmethod
        def __torch_function__(
            cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if func in (F.linear, F.gelu):
                return func.__name__
            raise AssertionError(func)

    x: Any = torch.ones(1, 1).as_subclass(Ours)
    taken: list[Any] = [F.linear(torch.ones(1, 1), x), F.gelu(x)]
    assert taken == ["linear", "gelu"]
    assert seen == ["linear", "gelu"]


def test_a_mode_and_a_subclass_both_take_over(seen: list[str]) -> None:
    """The mode comes first and calls on; then it is the subclass's. The call is seen once."""
    told: list[str] = []

    class Ours(torch.Tensor):
        @classmethod
        def __torch_function__(
            cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            told.append("subclass" if func is F.gelu else "other")
            return torch._C._disabled_torch_function_impl(func, types, args, kwargs or {})

    class Mode(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            told.append("mode" if func is F.gelu else "other")
            return func(*args, **(kwargs or {}))

    x = torch.ones(2).as_subclass(Ours)
    with Mode():
        result = F.gelu(x)
    assert type(result) is torch.Tensor
    assert told == ["mode", "subclass"]
    assert seen == ["gelu"]


def test_a_causal_bias_is_honoured(seen: list[str]) -> None:
    query, value = torch.ones(1, 1, 3, 8), torch.arange(24.0).reshape(1, 1, 3, 8)
    bias = causal_lower_right(3, 3)
    result = F.scaled_dot_product_attention(query, query, value, attn_mask=bias)
    torch.testing.assert_close(result[0, 0, 0], value[0, 0, 0])
    assert "scaled_dot_product_attention" in seen


def test_a_dispatch_mode_sees_the_programs_operators_alone(seen: list[str]) -> None:
    told: list[str] = []

    class Mode(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()  # type: ignore[no-untyped-call]

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            told.append(str(func))
            return func(*args, **(kwargs or {}))

    with Mode():
        F.gelu(torch.ones(2))
    assert told == ["aten.ones.default", "aten.gelu.default"]
    assert seen == ["gelu"]


def test_a_jit_trace_holds_the_models_operators_alone(seen: list[str], job: Job) -> None:
    job.steps.subscribe_forward(after=lambda forward: forward.output.isfinite().all())
    model = nn.Sequential(nn.Linear(2, 2), nn.GELU())
    model(torch.ones(1, 2))
    seen.clear()
    traced: Any = torch.jit.trace(model, torch.ones(1, 2), check_trace=False)
    assert "isfinite" not in str(traced.inlined_graph)
    assert seen == []


def test_scripting_finds_no_wrapper(seen: list[str], job: Job) -> None:
    job.calls.watch("torch.nn.Module.train", before=lambda a, k: None)
    wrapped = F.gelu, nn.Linear.forward, torch.jit.script

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.gelu(F.relu(F.linear(self.linear(x), x)))

    scripted: Any = torch.jit.script(Net())
    layer: Any = torch.jit.script(nn.TransformerEncoderLayer(2, 1, 2))  # it holds a wrapper

    assert "gelu" in scripted.code
    assert layer(torch.ones(1, 1, 2)).shape == (1, 1, 2)
    assert all(
        one is other
        for one, other in zip(wrapped, (F.gelu, nn.Linear.forward, torch.jit.script), strict=True)
    )
    F.gelu(torch.ones(1))
    assert seen == ["gelu"]
    job.detach_all()
    package = Path(remora.__file__).parent
    assert package not in Path(torch.jit.script.__code__.co_filename).parents
