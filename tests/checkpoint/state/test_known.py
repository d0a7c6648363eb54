"""Flattening again and again: whatever became of the state meanwhile, it comes out as if anew."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.checkpoint.state.test_tree import back, same

from remora.checkpoint.state.known import KnownDict
from remora.checkpoint.state.parts import Parts
from remora.checkpoint.state.tree import flatten

POOL = [torch.arange(float(n), n + 4).reshape(2, 2) for n in range(4)]
POOL += [
    POOL[0][0], POOL[0].t(), POOL[1].view(torch.int32), torch.empty(0), POOL[2].detach(),
    torch.nn.Parameter(torch.ones(2)), torch.ones(2, dtype=torch.complex64), torch.tensor(3),
]  # fmt: skip
"""Tensors of which some share memory: rows, turned ones, other dtypes, the very same."""
leaves = st.sampled_from(POOL) | st.integers(0, 3) | st.none()
words = st.sampled_from(["a", "b", "a.b", "$x", "__c"])
keys = words | st.sampled_from([0, 1, True, 1.0, 2])
dicts = st.dictionaries(words, st.sampled_from(POOL), max_size=3)
states = st.dictionaries(
    words,
    st.dictionaries(keys, dicts | leaves, max_size=3)
    | dicts.map(OrderedDict)
    | st.lists(leaves, max_size=2),
    max_size=4,
)


@given(st.lists(states, min_size=2, max_size=4))
def test_what_is_known_changes_nothing(generations: list[dict[str, Any]]) -> None:
    known: dict[str, KnownDict] = {}
    for state in [*generations, *generations]:
        flat, plain = flatten(state, known), flatten(state)
        assert flat.document == plain.document
        assert list(flat.tensors) == list(plain.tensors)
        assert same(back(flat), back(plain))
        assert all(
            flat.tensors[name].data_ptr() == plain.tensors[name].data_ptr()
            for name in plain.tensors
        )
        assert set(flat.fresh) <= set(flat.tensors)


def job() -> tuple[Any, torch.optim.Optimizer]:
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
    model[1].weight = model[0].weight  # tied
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    return model, optimizer


def test_a_model_and_its_optimizer_are_known() -> None:
    model, optimizer = job()
    parts, known = Parts(model=model, optimizer=optimizer), dict[str, KnownDict]()
    flatten(parts.capture(), known)
    again = flatten(parts.capture(), known)
    assert set(known) >= {"model", "optimizer.state"}
    assert set(again.fresh) == {name for name in again.tensors if name.startswith("rng.")}
    assert "model.1.weight" not in again.tensors


def grown(tensor: torch.Tensor) -> None:
    tensor.data = torch.ones(5, 3)


def turned(tensor: torch.Tensor) -> None:
    tensor.data = tensor.data.t()


def halved(tensor: torch.Tensor) -> None:
    tensor.data = tensor.data.half()


def moved(tensor: torch.Tensor) -> None:
    tensor.data = tensor.data.clone()


@pytest.mark.parametrize("change", [grown, turned, halved, moved])
@pytest.mark.parametrize("where", ["model", "optimizer"])
def test_what_became_of_a_tensor_is_seen(change: Any, where: str) -> None:
    model, optimizer = job()
    parts, known = Parts(model=model, optimizer=optimizer), dict[str, KnownDict]()
    for _ in range(2):
        flatten(parts.capture(), known)
    weight = model[2].weight
    tensor = weight if where == "model" else optimizer.state[weight]["exp_avg"]
    change(tensor)
    flat, plain = flatten(parts.capture(), known), flatten(parts.capture())
    assert flat.document == plain.document
    assert all(
        (flat.tensors[name].shape, flat.tensors[name].dtype, flat.tensors[name].stride())
        == (each.shape, each.dtype, each.stride())
        and flat.tensors[name].data_ptr() == each.data_ptr()
        for name, each in plain.tensors.items()
        if not name.startswith("rng.")
    )


def test_it_keeps_no_tensor_alive() -> None:
    import gc
    import weakref

    known: dict[str, KnownDict] = {}
    state = {"model": {"a": torch.ones(2), "b": torch.ones(3)}}
    flatten(state, known)
    gone = weakref.ref(state["model"]["a"])
    del state
    gc.collect()
    assert gone() is None
