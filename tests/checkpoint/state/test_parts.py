"""A job's objects are taken and put back exactly; what does not fit is said first."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.optim import lr_scheduler
from torch.optim.swa_utils import AveragedModel

from remora.checkpoint.state.parts import Parts
from remora.checkpoint.state.tree import Flat, flatten, unflatten
from remora.core.errors import BadValue, CheckpointDamaged, StateMismatch


class Net(nn.Module):
    """Small, with a tied weight, buffers of two dtypes and one that is not saved."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, width)
        self.norm = nn.BatchNorm1d(width)
        self.head = nn.Linear(width, 5, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("scratch", torch.zeros(2), persistent=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.norm(self.embed(tokens)))
        return logits


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 2) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randint(0, 5, (6,))).logsumexp(-1).sum().backward()
        optimizer.step()


def snapshot(parts: Parts) -> Flat:
    """As a checkpoint does: flat, and every tensor copied."""
    flat = flatten(parts.capture())
    return Flat({name: tensor.clone() for name, tensor in flat.tensors.items()}, flat.document)


def restore(parts: Parts, saved: Flat, **options: Any) -> dict[str, torch.Tensor]:
    """As a checkpoint does: the targets filled in place, the others allocated, then applied."""
    described = {name: tensor.to("meta") for name, tensor in saved.tensors.items()}
    targets = parts.targets(saved.document, described.__getitem__, **options)
    for name, target in targets.items():
        assert (target.dtype, target.shape) == (
            saved.tensors[name].dtype,
            saved.tensors[name].shape,
        )
        target.copy_(saved.tensors[name])
    filled = {name: tensor.clone() for name, tensor in saved.tensors.items()} | targets
    parts.apply(unflatten(saved.document, filled.__getitem__), **options)
    return targets


def equal(one: Any, other: Any) -> bool:
    first, second = flatten({"s": one}), flatten({"s": other})
    return first.document == second.document and all(
        torch.equal(a, b)
        for a, b in zip(first.tensors.values(), second.tensors.values(), strict=True)
    )


OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9),
    "plain-sgd": lambda p: torch.optim.SGD(p, 0.1),
    "adamw": lambda p: torch.optim.AdamW(p, amsgrad=True),
    "fused": lambda p: torch.optim.AdamW(p, fused=True),
    "tensor-lr": lambda p: torch.optim.Adam(p, lr=torch.tensor(0.01)),
    "adafactor": lambda p: torch.optim.Adafactor(p),
    "adadelta": lambda p: torch.optim.Adadelta(p),
    "asgd": lambda p: torch.optim.ASGD(p),
    "nadam": lambda p: torch.optim.NAdam(p),
    "rprop": lambda p: torch.optim.Rprop(p),
}


@pytest.mark.parametrize("stepped", [False, True], ids=["fresh", "stepped"])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_training_goes_on_bit_for_bit(kind: str, stepped: bool) -> None:
    def job() -> tuple[Net, torch.optim.Optimizer, Parts]:
        model = Net()
        optimizer = OPTIMIZERS[kind](model.parameters())
        return model, optimizer, Parts(model=model, optimizer=optimizer)

    torch.manual_seed(1)
    model, optimizer, parts = job()
    train(model, optimizer)
    saved = snapshot(parts)
    train(model, optimizer)

    again, its_optimizer, its_parts = job()
    if stepped:
        train(again, its_optimizer, 1)
    targets = restore(its_parts, saved)
    made_before = (
        {n for n in saved.tensors if n.startswith("optimizer.state.")} if stepped else set()
    )
    modules = {"model.embed.weight", "model.norm.weight", "model.norm.running_mean"}
    assert modules | made_before <= targets.keys()
    assert not any(name.startswith("rng") for name in targets)
    assert again.head.weight is again.embed.weight
    train(again, its_optimizer)
    assert equal(parts.capture(), its_parts.capture())


def decay(epoch: int) -> float:
    return 0.9**epoch


def schedulers(optimizer: torch.optim.Optimizer) -> dict[str, Callable[[], Any]]:
    def linear() -> lr_scheduler.LinearLR:
        return lr_scheduler.LinearLR(optimizer, 0.5)

    return {
        "lambda": lambda: lr_scheduler.LambdaLR(optimizer, decay),
        "multiplicative": lambda: lr_scheduler.MultiplicativeLR(optimizer, decay),
        "step": lambda: lr_scheduler.StepLR(optimizer, 2),
        "multi-step": lambda: lr_scheduler.MultiStepLR(optimizer, [1, 1, 3]),
        "constant": lambda: lr_scheduler.ConstantLR(optimizer),
        "linear": linear,
        "exponential": lambda: lr_scheduler.ExponentialLR(optimizer, 0.9),
        "polynomial": lambda: lr_scheduler.PolynomialLR(optimizer),
        "cosine": lambda: lr_scheduler.CosineAnnealingLR(optimizer, 5),
        "warm-restarts": lambda: lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 3),
        "one-cycle": lambda: lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=9),
        "cyclic": lambda: lr_scheduler.CyclicLR(optimizer, 0.01, 0.1, mode="exp_range", gamma=0.9),
        "chained": lambda: lr_scheduler.ChainedScheduler([linear(), linear()]),
        "sequential": lambda: lr_scheduler.SequentialLR(optimizer, [linear(), linear()], [2]),
    }


KINDS = list(schedulers(torch.optim.SGD([nn.Parameter(torch.ones(1))], 0.1, momentum=0.9)))


@pytest.mark.parametrize("kind", KINDS)
def test_every_scheduler_goes_on_where_it_was(kind: str) -> None:
    def job() -> tuple[Any, Any]:
        optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], 0.1, momentum=0.9)
        return optimizer, schedulers(optimizer)[kind]()

    def rates(optimizer: Any, scheduler: Any, steps: int) -> list[float]:
        made = []
        for _ in range(steps):
            optimizer.step()
            scheduler.step()
            made.append(optimizer.param_groups[0]["lr"])
        return made

    optimizer, scheduler = job()
    rates(optimizer, scheduler, 3)
    saved = snapshot(Parts(optimizer=optimizer, scheduler=scheduler))
    again, its_scheduler = job()
    restore(Parts(optimizer=again, scheduler=its_scheduler), saved)
    assert rates(again, its_scheduler, 4) == rates(optimizer, scheduler, 4)


def test_plateau_scaler_average_lists_dicts_and_values() -> None:
    def job() -> tuple[dict[str, Any], Parts]:
        nets = [Net(), Net()]
        optimizer = torch.optim.SGD(nets[0].parameters(), 0.1)
        plateau = lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
        made = {
            "models": nets,
            "ema": AveragedModel(nets[0]),
            "scaler": torch.amp.GradScaler("cpu"),
            "named": {"plateau": plateau, "seen": 0},
            "values": {"best": 0.1, "history": [torch.ones(2)]},
            "numbers": [1, 2],
        }
        return made, Parts(**made)

    made, parts = job()
    made["named"]["plateau"].step(1.0)
    made["named"]["plateau"].step(2.0)
    made["named"]["seen"] = 7
    made["ema"].update_parameters(made["models"][1])
    made["scaler"].scale(torch.ones(()))
    made["scaler"].update(512.0)
    made["values"]["best"] = 0.05
    made["numbers"].append(3)
    saved = snapshot(parts)

    other, its_parts = job()
    holders = other["values"], other["numbers"], other["models"][1].embed.weight
    restore(its_parts, saved)
    assert equal(its_parts.capture(), parts.capture())
    assert holders[0] is other["values"]
    assert other["values"]["best"] == 0.05
    assert other["numbers"] == [1, 2, 3]
    assert holders[2] is other["models"][1].embed.weight
    assert other["named"]["seen"] == 7
    assert other["named"]["plateau"].num_bad_epochs == made["named"]["plateau"].num_bad_epochs
    assert other["scaler"].get_scale() == 512.0


def draws() -> tuple[float, float, float, float, float]:
    return (
        random.random(), random.gauss(0, 1), float(np.random.rand()), float(np.random.randn()),
        float(torch.rand(())),
    )  # fmt: skip


def test_random_numbers_go_on_where_they_were() -> None:
    draws()  # a gaussian is left over in Python's and in numpy's generator
    saved = snapshot(Parts())
    wanted = [draws(), draws()]
    restore(Parts(), saved)
    assert [draws(), draws()] == wanted
    Parts().apply(unflatten(saved.document, saved.tensors.__getitem__), rng=False)
    assert draws() not in wanted


def test_a_wrapped_model_has_the_names_of_the_one_inside() -> None:
    model = Net()
    saved = snapshot(Parts(model=model))
    for wrapped in (nn.DataParallel(Net()), torch.compile(Net(), backend="eager")):
        assert list(snapshot(Parts(model=wrapped)).tensors) == list(saved.tensors)
        restore(Parts(model=wrapped), saved)
        assert equal(Parts(model=wrapped).capture()["model"], model.state_dict())


@pytest.fixture
def group() -> Iterator[None]:
    store = torch._C._distributed_c10d.HashStore()
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("group")
def test_a_model_in_distributed_data_parallel() -> None:
    model, other = Net(), nn.parallel.DistributedDataParallel(Net())
    restore(Parts(model=other), snapshot(Parts(model=model)))
    assert equal(other.module.state_dict(), model.state_dict())


class Counting(nn.Linear):
    """Has its own say: an extra state."""

    calls = 0

    def get_extra_state(self) -> Any:
        return {"calls": self.calls}

    def set_extra_state(self, state: Any) -> None:
        self.calls = state["calls"]


class Renamed(nn.Linear):
    """Has its own say: a hook that reads an older name."""

    def __init__(self) -> None:
        super().__init__(3, 3)
        self.register_load_state_dict_pre_hook(self._rename)  # type: ignore[no-untyped-call]

    @staticmethod
    def _rename(module: nn.Module, state: dict[str, Any], *_: Any) -> None:
        if "kernel" in state:
            state["weight"] = state.pop("kernel")


def test_modules_with_a_say_in_their_state_load_by_themselves() -> None:
    counting, again = Counting(2, 2), Counting(2, 2)
    counting.calls = 5
    assert restore(Parts(model=again), snapshot(Parts(model=counting))) == {}
    assert again.calls == 5
    assert torch.equal(again.weight, counting.weight)

    old = {"model": {"kernel": torch.ones(3, 3), "bias": torch.zeros(3)}}
    renamed = Renamed()
    Parts(model=renamed).apply(old)
    assert torch.equal(renamed.weight, torch.ones(3, 3))
    with pytest.raises(StateMismatch, match=r"model refused it with RuntimeError.*wrong"):
        Parts(model=renamed).apply({"model": {"wrong": torch.ones(1)}})


def test_lazy_modules_are_made_by_the_checkpoint() -> None:
    made, lazy = nn.LazyLinear(3), nn.LazyLinear(3)
    made(torch.ones(1, 2))
    restore(Parts(model=lazy), snapshot(Parts(model=made)))
    assert torch.equal(lazy.weight, made.weight)


def test_all_misfits_are_named_before_anything_is_touched() -> None:
    wide, narrow = Net(6), Net(4)
    state = unflatten(*_parts_of(snapshot(Parts(model=wide, second=wide))))
    del state["model"]["norm.bias"]
    state["model"]["extra"] = torch.ones(1)
    before = copy.deepcopy(narrow.state_dict())
    with pytest.raises(StateMismatch) as refused:
        Parts(model=narrow, ema=Net()).apply(state)
    said = str(refused.value)
    assert "model.embed.weight is 5×6 in the checkpoint and 5×4 here" in said
    assert "model.norm.bias is not in the checkpoint" in said
    assert "model.extra is only in the checkpoint" in said
    assert "ema is not in the checkpoint" in said
    assert "\n" not in said
    assert equal(narrow.state_dict(), before)


def _parts_of(flat: Flat) -> tuple[bytes, Callable[[str], torch.Tensor]]:
    return flat.document, flat.tensors.__getitem__


def test_at_most_ten_misfits_are_shown() -> None:
    deep = nn.Sequential(*(nn.Linear(1, 1) for _ in range(10)))
    with pytest.raises(StateMismatch, match="and 10 more") as refused:
        Parts(model=deep).apply({"model": {}})
    assert str(refused.value).count("is not in the checkpoint") == 10


def test_targets_refuse_before_anything_is_read() -> None:
    saved = snapshot(Parts(model=Net(6)))
    with pytest.raises(StateMismatch, match="5×6"):
        restore(Parts(model=Net(4)), saved)
    del saved.tensors["model.norm.bias"]
    with pytest.raises(CheckpointDamaged, match=r"model\.norm\.bias"):
        restore(Parts(model=Net(6)), saved)


def test_without_strict_what_fits_is_put_back_and_the_rest_said() -> None:
    wide, narrow = Net(6), Net(4)
    narrow.norm.register_buffer("num_batches_tracked", torch.tensor(3))
    lines = Parts(model=narrow, ema=Net()).apply(
        unflatten(*_parts_of(snapshot(Parts(model=wide)))), strict=False
    )
    assert narrow.norm.num_batches_tracked == 0
    assert "ema is not in the checkpoint" in lines
    assert len([line for line in lines if "5×6" in line]) == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s["param_groups"].append(s["param_groups"][0]), "2 param_groups"),
        (lambda s: s["param_groups"][0]["params"].pop(), "3 params in the checkpoint"),
        (lambda s: s["state"][0].update(exp_avg=torch.ones(7)), "exp_avg is 7 in the checkpoint"),
        (lambda s: s.pop("state"), "no optimizer's state"),
        (lambda s: s["param_groups"].__setitem__(0, 5), "has no params"),
    ],
    ids=range(5),
)
def test_an_optimizer_that_does_not_fit(change: Callable[[Any], Any], said: str) -> None:
    model = Net()
    optimizer = torch.optim.Adam([{"params": [*model.parameters(), nn.Parameter(torch.ones(1))]}])
    train(model, optimizer)
    parts = Parts(optimizer=optimizer)
    state = unflatten(*_parts_of(snapshot(parts)))
    change(state["optimizer"])
    with pytest.raises(StateMismatch, match=said):
        parts.apply(state)
    assert any(said in line for line in parts.apply(state, strict=False))


def test_parts_of_the_checkpoint_that_are_not_asked_for_are_left() -> None:
    model, optimizer = Net(), torch.optim.Adam(Net().parameters())
    saved = snapshot(Parts(model=model, optimizer=optimizer))
    other = Net()
    restore(Parts(model=other), saved)
    assert equal(other.state_dict(), model.state_dict())


def test_untied_from_tied_and_tied_from_untied() -> None:
    tied, untied = Net(), Net()
    untied.head.weight = nn.Parameter(torch.full((5, 4), 2.0))
    saved = snapshot(Parts(model=untied))
    targets = restore(Parts(model=tied), saved)
    assert len({tensor.data_ptr() for tensor in targets.values()}) == len(targets)
    assert torch.equal(tied.embed.weight, torch.full((5, 4), 2.0))

    fresh = Net()
    untied.head.weight = nn.Parameter(torch.zeros(5, 4))
    restore(Parts(model=untied), snapshot(Parts(model=fresh)))
    assert torch.equal(untied.head.weight, fresh.embed.weight)
    assert untied.head.weight.data_ptr() != untied.embed.weight.data_ptr()


class Buffered(nn.Module):
    t: torch.Tensor

    def __init__(self, value: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("t", value)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.bfloat16, torch.float8_e8m0fnu], ids=str)
@pytest.mark.parametrize("turned", [False, True], ids=["contiguous", "turned"])
def test_targets_are_stored_views_of_the_live_tensors(dtype: torch.dtype, turned: bool) -> None:
    value = torch.full((3, 2), 2).to(dtype)
    empty = torch.zeros((3, 2)).to(dtype)
    stored, live = (Buffered(each.t() if turned else each) for each in (value, empty))
    pointer = live.t.data_ptr()
    assert "model.t" in restore(Parts(model=live), snapshot(Parts(model=stored)))
    assert live.t.data_ptr() == pointer
    assert torch.equal(live.t.to(torch.complex64), stored.t.to(torch.complex64))


def test_what_overlaps_itself_is_no_target() -> None:
    live, other = Buffered(torch.zeros(1).expand(3)), Buffered(torch.zeros(3))
    described = snapshot(Parts(model=other))
    targets = Parts(model=live).targets(described.document, described.tensors.__getitem__)
    assert targets == {}


def test_what_a_forward_may_change_is_volatile() -> None:
    model = Net()
    optimizer = torch.optim.Adam(model.parameters(), lr=torch.tensor(0.1))
    train(model, optimizer)
    ema = AveragedModel(model)
    parts = Parts(model=model, optimizer=optimizer, ema=ema, values={"t": torch.ones(1)})
    flat = flatten(parts.capture())
    steady = flat.tensors.keys() - parts.volatile(flat)
    assert steady == {
        "model.embed.weight", "model.norm.weight", "model.norm.bias",
        *(f"optimizer.state.{i}.{k}" for i in range(3) for k in ("step", "exp_avg", "exp_avg_sq")),
    }  # fmt: skip
    alone = Parts(model=model, ema=ema)
    flat = flatten(alone.capture())
    steady = flat.tensors.keys() - alone.volatile(flat)
    assert steady == {"model.embed.weight", "model.norm.weight", "model.norm.bias"}


@pytest.mark.parametrize("value", [3, "text", None, torch.ones(1), (1, 2), len], ids=range(6))
def test_what_cannot_be_put_back_in_place_is_no_part(value: object) -> None:
    with pytest.raises(BadValue, match="'extra' is a"):
        Parts(extra=value)


def test_the_random_numbers_place_is_taken() -> None:
    with pytest.raises(BadValue, match="rng"):
        Parts(rng={})
