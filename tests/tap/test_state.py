"""State is found without being told, named as the program names it, and linked."""

from __future__ import annotations

import copy
import gc
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import ConstantLR, ReduceLROnPlateau, SequentialLR, StepLR

from remora.tap.job import Job
from remora.tap.state import FoundModel, FoundState


@pytest.fixture(autouse=True)
def _nothing_left_by_others() -> None:
    gc.collect()


def find(job: Job, *own: object) -> FoundState:
    """What is found, less what other tests keep alive."""
    found = job.state.find()
    ids = {id(thing) for thing in own}
    return FoundState(
        models=tuple(m for m in found.models if id(m.module) in ids),
        optimizers=tuple(o for o in found.optimizers if id(o.optimizer) in ids),
        schedulers=tuple(s for s in found.schedulers if id(s.scheduler) in ids),
        scalers=found.scalers,
        dataloaders=found.dataloaders,
        cost_ms=found.cost_ms,
    )


def the(found: FoundState, module: nn.Module) -> FoundModel:
    return next(model for model in found.models if model.module is module)


def test_a_plain_loop(job: Job) -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 1))
    adam = torch.optim.Adam(net.parameters())
    decay = StepLR(adam, 1)
    scaling = torch.amp.GradScaler("cpu")
    loader: Any = torch.utils.data.DataLoader([1, 2, 3])  # type: ignore[arg-type]
    loss = nn.CrossEntropyLoss()

    found = find(job, net, adam, decay, loss)

    assert [(m.name, m.module, m.parameters, m.trained_by) for m in found.models] == [
        ("net", net, 49, ("adam",))
    ]
    assert [(o.name, o.trains) for o in found.optimizers] == [("adam", ("net",))]
    assert [(s.name, s.drives) for s in found.schedulers] == [("decay", "adam")]
    assert ("scaling", scaling) in [(s.name, s.value) for s in found.scalers]
    assert ("loader", loader) in [(s.name, s.value) for s in found.dataloaders]
    assert found.cost_ms > 0


def test_an_adversarial_pair_with_a_teacher(job: Job) -> None:
    generator, critic, teacher = nn.Linear(2, 2), nn.Linear(2, 1), nn.Linear(50, 50)
    of_generator = torch.optim.Adam(generator.parameters())
    of_critic = torch.optim.SGD(critic.parameters(), lr=0.1)

    found = find(job, generator, critic, teacher, of_generator, of_critic)

    assert [(m.name, m.trained_by) for m in found.models] == [
        ("generator", ("of_generator",)),
        ("critic", ("of_critic",)),
        ("teacher", ()),
    ]
    assert [m.name for m in found.trained] == ["generator", "critic"]


def test_names_inside_objects_and_containers(job: Job) -> None:
    class Trainer:
        def __init__(self) -> None:
            self.model = nn.Linear(2, 2)
            self.parts = {"optimizer": torch.optim.SGD(self.model.parameters(), lr=0.1)}

    trainer = Trainer()
    pair = [nn.Linear(3, 3), nn.Linear(4, 4)]

    found = find(job, trainer.model, trainer.parts["optimizer"], *pair)

    assert {m.name for m in found.models} == {"trainer.model", "pair[0]", "pair[1]"}
    assert found.optimizers[0].name == "trainer.parts['optimizer']"


def test_what_has_no_name_gets_an_ordinal(job: Job) -> None:
    def held() -> Any:
        hidden = nn.Bilinear(2, 2, 2)
        yield hidden

    generator = held()
    module = next(generator)
    reference = weakref.ref(module)
    del module

    found = job.state.find()

    names = [m.name for m in found.models if m.module is reference()]
    assert names == ["Bilinear#0"]


def test_an_averaged_copy_is_a_model_not_trained(job: Job) -> None:
    net = nn.Linear(2, 2)
    adam = torch.optim.Adam(net.parameters())
    average = copy.deepcopy(net)

    found = find(job, net, adam, average)

    assert the(found, average).trained_by == ()
    assert the(found, net).trained_by == ("adam",)


def test_wrapped_things_are_named_once(job: Job) -> None:
    net = nn.Linear(2, 2)
    compiled = torch.compile(net, backend="eager")
    parallel = nn.DataParallel(net)

    found = job.state.find()

    same = [m for m in found.models if m.module in (net, compiled, parallel)]
    assert [m.name for m in same] == ["net"]
    assert {type(w).__name__ for w in same[0].wrappers} == {"OptimizedModule", "DataParallel"}


def test_a_model_known_by_its_wrapper_takes_its_name(job: Job) -> None:
    parallel = nn.DataParallel(nn.Linear(2, 2))

    assert [m.name for m in find(job, parallel.module).models] == ["parallel"]


def test_parts_of_a_scheduler_are_not_schedulers(job: Job) -> None:
    adam = torch.optim.Adam(nn.Linear(2, 2).parameters())
    whole = SequentialLR(adam, [ConstantLR(adam), StepLR(adam, 1)], milestones=[1])
    plateau = ReduceLROnPlateau(adam)

    found = job.state.find()

    ours = [s for s in found.schedulers if s.drives == "adam"]
    assert [(s.name, s.scheduler) for s in ours] == [("plateau", plateau), ("whole", whole)]


def test_finding_wakes_no_lazy_module(job: Job) -> None:
    woken: list[str] = []

    class Proxy:
        @property  # type: ignore[misc]
        def __class__(self) -> type:
            woken.append("class")
            return nn.Module

        def __getattr__(self, name: str) -> Any:
            woken.append(name)
            raise AttributeError(name)

    proxy = Proxy()
    lazy = nn.LazyLinear(3)

    found = find(job, lazy)

    assert [(m.name, m.parameters) for m in found.models] == [("lazy", 0)]
    assert woken == []
    assert proxy is not None


def test_nothing_stays_alive_after_finding(job: Job) -> None:
    net = nn.Linear(2, 2)
    alive = weakref.ref(net)
    job.state.find()
    del net

    assert alive() is None


def test_a_programs_own_snapshot_of_its_locals_is_left_alone(job: Job) -> None:
    net = nn.Linear(2, 2)
    mine = locals()
    job.state.find()

    assert mine["net"] is net


def test_what_a_service_hides_is_not_found(job: Job) -> None:
    net = nn.Linear(2, 2)
    job.state.hide(net)

    assert find(job, net).models == ()


def test_a_transformers_trainer(job: Job, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    config = transformers.GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=32, n_positions=16)
    example = {"input_ids": torch.arange(8), "labels": torch.arange(8)}
    found: list[FoundState] = []
    steps: list[int] = []
    trainer = transformers.Trainer(
        model=transformers.GPT2LMHeadModel(config),
        args=transformers.TrainingArguments(
            output_dir=str(tmp_path), max_steps=3, per_device_train_batch_size=2, report_to=[],
            save_strategy="no", disable_tqdm=True, use_cpu=True, dataloader_pin_memory=False,
        ),
        train_dataset=[example] * 8,
    )  # fmt: skip

    def look(step: Any) -> None:
        steps.append(step.number)
        if not found:
            found.append(job.state.find())

    job.steps.subscribe(look)
    trainer.train()

    model = the(found[0], trainer.model)
    assert model.name == "trainer.model"
    assert steps == [0, 1, 2]
    (optimizer,) = [o for o in found[0].optimizers if model.name in o.trains]
    assert type(optimizer.optimizer).__name__ == "AdamW"
    assert [type(w).__name__ for w in optimizer.wrappers] == ["AcceleratedOptimizer"]
    assert [s.drives for s in found[0].schedulers if s.drives == optimizer.name]


def test_without_torch_nothing_is_found_and_torch_is_not_imported() -> None:
    code = (
        "import sys; from remora.tap.job import Job; found = Job().state.find();"
        "print(len(found.models), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["0", "False"]


def test_a_fully_sharded_model_is_the_one_within(job: Job) -> None:
    """A stand-in: the real one needs a process group and an accelerator."""

    class FullyShardedDataParallel(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self._fsdp_wrapped_module = module

        @property
        def module(self) -> nn.Module:
            return self._fsdp_wrapped_module

    inner = nn.Linear(2, 1)
    sharded = FullyShardedDataParallel(inner)
    (found,) = [one for one in job.state.find().models if one.module in (inner, sharded)]

    assert found.module is inner
    assert found.wrappers == (sharded,)
