"""Names: what is watched by our name is what TrainCheck means by its own."""

from __future__ import annotations

import pytest
import torch

from remora.check.calls import MODEL_FORWARD, OPTIMIZER_STEP
from remora.check.observe.watchlist import public_functions
from remora.check.traincheck.names import Named, ours, theirs
from remora.tap.names import Place, find


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("torch._C.TensorBase.normal_", "torch.Tensor.normal_"),
        ("torch._tensor.Tensor.backward", "torch.Tensor.backward"),
        ("torch.nn.modules.module.Module.train", "torch.nn.Module.train"),
        ("torch._VariableFunctionsClass._foreach_add", "torch._foreach_add"),
        ("torch._VariableFunctionsClass.conv2d", "torch.nn.functional.conv2d"),
        ("torch.optim.optimizer.Optimizer.zero_grad", "torch.optim.Optimizer.zero_grad"),
        ("torch.optim.adadelta.Adadelta._init_group", "torch.optim.Adadelta._init_group"),
        ("torch.optim.adadelta.adadelta", "torch.optim.adadelta.adadelta"),
        ("torch.optim.lr_scheduler.StepLR.get_lr", "torch.optim.lr_scheduler.StepLR.get_lr"),
        (
            "torch.distributed.distributed_c10d.PyCapsule.get_debug_level",
            "torch.distributed.get_debug_level",
        ),
        (
            "torch.distributed.distributed_c10d._get_default_group",
            "torch.distributed.distributed_c10d._get_default_group",
        ),
        ("mmpretrain.mock.freeze_stages", "mmpretrain.mock.freeze_stages"),
    ],
)
def test_a_function_has_the_name_by_which_a_program_finds_it(name: str, expected: str) -> None:
    assert ours(name) == Named(expected, {})
    if expected.startswith("torch"):
        assert isinstance(find(expected), Place)


def test_a_step_of_an_optimizer_is_any_step_and_its_class() -> None:
    name = "torch.optim.adam.Adam.step"

    assert ours(name) == Named(OPTIMIZER_STEP, {"self.kind": "Adam"})
    assert theirs(OPTIMIZER_STEP, "Adam") == name
    assert theirs(OPTIMIZER_STEP) is None
    assert theirs(OPTIMIZER_STEP, "Lion") is None


@pytest.mark.parametrize("name", ["torch.nn.modules.module.Module.forward",
                                  "torch.optim.optimizer.Optimizer.step"])  # fmt: skip
def test_what_a_base_class_defines_is_not_what_all_classes_do(name: str) -> None:
    assert ours(name).function == name


def test_what_we_watch_has_a_name_there_that_means_it() -> None:
    names = [name for name in public_functions() if name != MODEL_FORWARD]
    away = {name: theirs(name) for name in names}

    assert len(names) > 300
    assert {name: there for name, there in away.items() if there is None} == {}
    back = {name: ours(there).function for name, there in away.items() if there is not None}
    assert back == {name: name for name in names}


def test_every_public_layer_and_optimizer_is_the_same_by_both_names() -> None:
    classes = [
        cls
        for module in (torch.nn, torch.optim)
        for cls in vars(module).values()
        if isinstance(cls, type)
        and cls.__module__.startswith(("torch.nn.modules.", "torch.optim."))
    ]
    for cls in classes:
        named = ours(f"{cls.__module__}.{cls.__qualname__}.__init__")
        found = find(named.function)
        assert isinstance(found, Place)
        assert found.owner is cls
    assert len(classes) > 150
