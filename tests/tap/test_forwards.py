"""Root forwards: found by themselves, hooked one by one, and nothing left behind."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import threading
import weakref

import pytest
import torch
from torch import nn
from torch.nn.modules import module as torch_module

from remora.tap.forwards import Forward
from remora.tap.job import Job

X = torch.ones(2, 4)


def armed() -> bool:
    return bool(torch_module._global_forward_pre_hooks)


def kinds(seen: list[Forward]) -> list[str]:
    return [type(one.module).__name__ for one in seen]


def test_only_the_root_is_seen(job: Job, model: nn.Module) -> None:
    seen: list[Forward] = []
    begun: list[int] = []
    job.steps.subscribe_forward(seen.append, before=lambda f: begun.append(f.number))
    for _ in range(3):
        model(X)

    assert kinds(seen) == ["Sequential"] * 3
    assert [one.number for one in seen] == begun == [0, 1, 2]
    assert seen[0].args[0] is X
    assert torch.equal(seen[0].output, model(X))


def test_discovery_is_off_for_almost_every_call(job: Job, model: nn.Module) -> None:
    during: list[bool] = []

    class Spy(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            during.append(armed())
            return x

    job.steps.subscribe_forward(lambda f: None)
    root = nn.Sequential(model, Spy())
    after = []
    for _ in range(40):
        root(X)
        after.append(armed())

    assert not any(during)
    assert [n + 1 for n, on in enumerate(after) if on] == [1, 2, 4, 8, 16, 32]


def test_a_second_model_is_found(job: Job) -> None:
    seen: list[Forward] = []
    job.steps.subscribe_forward(seen.append)
    generator, discriminator = nn.Linear(4, 4), nn.Bilinear(4, 4, 1)
    for _ in range(4):
        made = generator(X)
        discriminator(made, X)

    assert kinds(seen) == ["Linear", "Bilinear"] * 4


@pytest.mark.slow
def test_a_forward_that_raises_leaves_nothing(job: Job, model: nn.Module) -> None:
    class Flaky(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, x: torch.Tensor, fail: bool) -> torch.Tensor:
            out: torch.Tensor = self.inner(x)
            if fail:
                raise RuntimeError("flaky")
            return out

    seen: list[Forward] = []
    job.steps.subscribe_forward(seen.append)
    flaky = Flaky()
    for fail in (False, True, True, False, True, False):
        if fail:
            with pytest.raises(RuntimeError, match="flaky"):
                flaky(X, fail)
        else:
            flaky(X, fail)
    for _ in range(2):
        flaky(X, False)
        model(X)

    assert kinds(seen) == ["Flaky"] * 4 + ["Sequential", "Flaky", "Sequential"]


def test_a_root_called_within_another_root_is_part_of_it(job: Job, model: nn.Module) -> None:
    seen: list[Forward] = []
    job.steps.subscribe_forward(seen.append)
    model(X)
    whole = nn.Sequential(model, nn.Identity())
    whole(X)
    whole(X)
    model(X)

    assert [one.module is whole for one in seen] == [False, True, True, False]


def test_threads_are_told_apart(job: Job) -> None:
    seen: list[int] = []
    job.steps.subscribe_forward(lambda f: seen.append(id(f.module)))
    models = [nn.Sequential(nn.Linear(4, 4)) for _ in range(3)]
    for one in models:
        one(X)
    seen.clear()
    threads = [threading.Thread(target=lambda m=one: [m(X) for _ in range(30)]) for one in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(seen) == sorted(id(one) for one in models for _ in range(30))


def test_checkpointed_modules_are_not_roots_in_backward(job: Job, model: nn.Module) -> None:
    from torch.utils.checkpoint import checkpoint

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return checkpoint(self.inner, x, use_reentrant=False)  # type: ignore[no-any-return]

    seen: list[Forward] = []
    job.steps.subscribe_forward(seen.append)
    whole = Whole()
    for _ in range(5):
        whole(X).sum().backward()

    assert kinds(seen) == ["Whole"] * 5


def test_a_wrapped_model_is_seen_as_its_wrapper(job: Job, model: nn.Module) -> None:
    seen: list[Forward] = []
    job.steps.subscribe_forward(seen.append)
    parallel = nn.DataParallel(model)
    parallel(X)
    parallel(X)

    assert kinds(seen) == ["DataParallel"] * 2


@pytest.mark.slow
def test_a_compiled_model_is_seen_and_computes_the_same(job: Job, model: nn.Module) -> None:
    expected = model(X)
    seen: list[Forward] = []
    job.steps.subscribe_forward(seen.append)
    compiled = torch.compile(model, backend="eager")
    results = [compiled(X) for _ in range(3)]

    assert kinds(seen) == ["OptimizedModule"] * 3
    assert all(torch.allclose(result, expected) for result in results)


def test_a_model_compiled_in_place_computes_the_same(job: Job, model: nn.Module) -> None:
    expected = model(X)
    job.steps.subscribe_forward(lambda f: None)
    model.compile(backend="eager")

    assert all(torch.allclose(model(X), expected) for _ in range(3))


@pytest.mark.slow
def test_generation_is_a_forward_a_token(job: Job) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        n_layer=1, n_head=2, n_embd=8, vocab_size=32, bos_token_id=0, eos_token_id=None
    )
    language_model = transformers.GPT2LMHeadModel(config).eval()
    seen: list[Forward] = []
    job.steps.subscribe_forward(seen.append)
    language_model.generate(
        torch.ones(1, 3, dtype=torch.long), max_new_tokens=5, do_sample=False, pad_token_id=0
    )

    assert kinds(seen) == ["GPT2LMHeadModel"] * 5


def test_leaving_unhooks_every_root(job: Job, model: nn.Module) -> None:
    subscription = job.steps.subscribe_forward(lambda f: None)
    model(X)
    assert model._forward_hooks
    subscription.remove()

    assert not model._forward_hooks
    assert not model._forward_pre_hooks
    assert not armed()


def test_no_model_is_kept_alive(job: Job) -> None:
    job.steps.subscribe_forward(lambda f: None)
    model = nn.Linear(4, 1)
    model(X)
    alive = weakref.ref(model)
    del model
    gc.collect()

    assert alive() is None


def test_a_copy_sheds_the_hooks_at_its_first_call(job: Job, model: nn.Module) -> None:
    seen: list[Forward] = []
    job.steps.subscribe_forward(seen.append)
    model(X)
    average = copy.deepcopy(model)
    job.detach_all()
    average(X)

    assert not average._forward_hooks
    assert not average._forward_pre_hooks
    assert len(seen) == 1


def test_a_stored_model_loads_where_there_is_no_remora(job: Job, model: nn.Module) -> None:
    job.steps.subscribe_forward(lambda f: None)
    model(X)
    data = pickle.dumps(model)
    whole = io.BytesIO()
    torch.save(model, whole)
    whole.seek(0)

    assert b"remora" not in data
    assert torch.equal(pickle.loads(data)(X), model(X))
    assert torch.equal(torch.load(whole, weights_only=False)(X), model(X))


def test_a_shallow_copy_and_a_replica_leave_the_originals_hooks(job: Job, model: nn.Module) -> None:
    seen: list[Forward] = []
    job.steps.subscribe_forward(seen.append, before=seen.append)
    model(X)
    shallow = copy.copy(model)
    replica = model._replicate_for_data_parallel()
    for _ in range(3):
        shallow(X)
        replica(X)
    seen.clear()
    model(X)

    assert [one.module for one in seen] == [model, model]


def test_a_subscriber_of_the_end_alone_costs_one_hook(job: Job, model: nn.Module) -> None:
    job.steps.subscribe_forward(lambda f: None)
    model(X)
    assert (len(model._forward_pre_hooks), len(model._forward_hooks)) == (0, 1)

    begun: list[int] = []
    job.steps.subscribe_forward(before=lambda f: begun.append(f.number))
    model(X)
    assert begun == [1]


def test_a_root_called_again_in_backward_counts_once(job: Job, model: nn.Module) -> None:
    from torch.utils.checkpoint import checkpoint

    seen: list[Forward] = []
    job.steps.subscribe_forward(seen.append)
    for _ in range(3):
        checkpoint(model, X, use_reentrant=False).sum().backward()

    assert kinds(seen) == ["Sequential"] * 3
