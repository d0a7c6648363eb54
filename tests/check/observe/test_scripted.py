"""Modules that torch has compiled to a script: what holds their tensors is no dict."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import nn

from remora.check.observe.counting import Batches
from remora.check.observe.places import ModuleEntry


def test_tensors_of_a_scripted_module_are_found() -> None:
    scripted: Any = torch.jit.script(nn.BatchNorm1d(3))
    weight, nothing, mean = (
        ModuleEntry(weakref.ref(scripted), where, key)
        for where, key in (
            ("_parameters", "weight"), ("_parameters", "other"), ("_buffers", "running_mean")
        )
    )  # fmt: skip
    assert weight().shape == mean().shape == (3,)
    assert nothing() is None


def test_batches_of_a_scripted_module_are_counted() -> None:
    scripted: Any = torch.jit.script(nn.Sequential(nn.BatchNorm1d(3), nn.ReLU()))
    scripted(torch.ones(2, 3))
    assert Batches()(scripted).tolist() == [1]


def test_what_counts_no_batches_is_left_out() -> None:
    parts = nn.Sequential(nn.BatchNorm1d(3, track_running_stats=False), nn.BatchNorm1d(3))
    parts(torch.ones(2, 3))
    assert Batches()(parts).tolist() == [1]
    assert Batches()(parts[0]) is None
