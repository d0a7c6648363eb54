"""Operators on the device give what they give on the CPU, to the bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from remora.core.errors import BadValue, CannotCapture
from remora.remote.eager.device import Device

X = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
Y = torch.randn(4, 6, generator=torch.Generator().manual_seed(1))
IMAGE = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(2))
KERNEL = torch.randn(5, 3, 3, 3, generator=torch.Generator().manual_seed(3))
IDS = torch.tensor([[3, 1, 2], [0, 3, 1]])
MASK = X > 0
WHOLE = torch.arange(24).reshape(4, 6)

CASES: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "add": (torch.add, (X, Y)),
    "add with alpha": (lambda x, y: torch.add(x, y, alpha=2), (X, Y)),
    "number from the left": (lambda x: 1 - x, (X,)),
    "divided number": (lambda x: 1 / x, (X,)),
    "power": (lambda x: x**2 + 2**x, (X,)),
    "single of the CPU": (lambda x: x * torch.tensor(3.0), (X,)),
    "whole by fraction": (lambda x: x * 1.5, (WHOLE,)),
    "true division": (lambda x: x / 2, (WHOLE,)),
    "floor division": (lambda x: x // 5, (WHOLE,)),
    "one and True": (lambda x: (x + 1, x + True, x + 1.0), (WHOLE,)),
    "compare": (lambda x, y: (x < y, x == y, x >= 0), (X, Y)),
    "logic": (lambda m: (~m, m & m, m | ~m, m ^ m), (MASK,)),
    "where": (torch.where, (MASK, X, Y)),
    "where with numbers": (lambda m, x: torch.where(m, x, 0.0), (MASK, X)),
    "clamp": (lambda x: x.clamp(-0.5, 0.5), (X,)),
    "activations": (
        lambda x: [f(x) for f in (F.relu, F.gelu, F.silu, torch.tanh, F.softplus, F.elu, F.mish)],
        (X,),
    ),
    "softmax": (lambda x: (x.softmax(-1), F.log_softmax(x, 0)), (X,)),
    "sums": (lambda x: (x.sum(), x.sum(0), x.mean(1, keepdim=True), x.std(), x.var(1)), (X,)),
    "extremes": (lambda x: (x.max(), x.max(1), x.argmin(0), x.amax(1), x.topk(2), x.sort()), (X,)),
    "norms": (lambda x: (x.norm(), torch.linalg.vector_norm(x, dim=1)), (X,)),
    "products": (lambda x, y: (x @ y.T, torch.mv(x, y[0]), torch.dot(x[0], y[0])), (X, Y)),
    "batched product": (lambda x, y: x.expand(3, 4, 6) @ y.transpose(-1, -2), (X, Y)),
    "einsum": (lambda x, y: torch.einsum("ij,kj->ik", x, y), (X, Y)),
    "linear": (lambda x, y: F.linear(x, y, y[:, 0]), (X, Y)),
    "layer norm": (lambda x, y: F.layer_norm(x, (6,), y[0], y[1]), (X, Y)),
    "group norm": (lambda x: F.group_norm(x.expand(2, 4, 6), 2), (X,)),
    "batch norm": (lambda x, y: F.batch_norm(x, y[0], y[1].abs() + 1), (X, Y)),
    "cat and stack": (lambda x, y: (torch.cat([x, y], 1), torch.stack([x, y])), (X, Y)),
    "pieces": (lambda x: [part + 1 for part in (*x.split(2), *x.chunk(3, 1), *x.unbind())], (X,)),
    "shapes": (
        lambda x: (x.T.reshape(-1), x[1:, ::2], x[:, None], x.flip(0), x.roll(1), x.repeat(2, 1)),
        (X,),
    ),
    "select": (lambda x: (x[1], x[-1, 2:4], x[..., 0], x.diagonal(), x.tril(), x.unfold(1, 2, 2)),
               (X,)),
    "expand": (lambda x: x[:1].expand(5, 6) + x[:, :1].sum(), (X,)),
    "index": (lambda x, i: (x[i], x[:, i], x[i, i]), (X, IDS)),
    "index of the CPU": (lambda x: x[torch.tensor([2, 0])], (X,)),
    "mask": (lambda x, m: (x[m], x[m[:, 0]], x.masked_select(m), x.masked_fill(m, 9.0)), (X, MASK)),
    "nonzero": (lambda x, m: (m.nonzero(), torch.where(m), torch.argwhere(x > 1)), (X, MASK)),
    "gather": (lambda x, i: (x.gather(1, i), x.index_select(1, i[0]), x.take(i)), (X[:2], IDS)),
    "scatter": (lambda x, i: (x.scatter(1, i, 0.5), x.scatter_add(1, i, x)), (X[:2], IDS)),
    "repeat interleave": (lambda x, i: x.repeat_interleave(i, dim=0), (X, torch.arange(4))),
    "embedding": (lambda i, x: F.embedding(i, x), (IDS, X)),
    "one hot": (lambda i: F.one_hot(i, 5), (IDS,)),
    "cumulated": (lambda x: (x.cumsum(1), x.cumprod(0), x.cummax(1)), (X,)),
    "convolution": (lambda x, k: F.conv2d(x, k, padding=1, stride=2), (IMAGE, KERNEL)),
    "transposed convolution": (lambda x, k: F.conv_transpose2d(x, k.mT[:3]), (IMAGE, KERNEL)),
    "channels last": (
        lambda x, k: F.conv2d(x.to(memory_format=torch.channels_last), k), (IMAGE, KERNEL)),
    "pooling": (
        lambda x: (F.max_pool2d(x, 2), F.avg_pool2d(x, 3), F.adaptive_avg_pool2d(x, 1)), (IMAGE,)),
    "interpolate": (lambda x: F.interpolate(x, scale_factor=2.0, mode="bilinear"), (IMAGE,)),
    "pad": (lambda x: (F.pad(x, (1, 2)), F.pad(x, (1, 1, 1, 1), mode="reflect")), (IMAGE,)),
    "attention": (lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True), (IMAGE,)),
    "losses": (
        lambda x, y: (F.mse_loss(x, y), F.smooth_l1_loss(x, y), F.cross_entropy(x, y.softmax(1))),
        (X, Y),
    ),
    "classes": (lambda x: F.cross_entropy(x, torch.tensor([1, 0, 5, 2]).to(x.device)), (X,)),
    "dtypes": (lambda x: (x.half(), x.double(), x.bfloat16().float(), x.int(), x.bool()), (X,)),
    "bits": (lambda x: x.view(torch.int32) & 0xFF, (X,)),
    "not numbers": (
        lambda x: (x.masked_fill(x > 0, float("-inf")), torch.nan_to_num(x / 0.0), (x / 0).isinf()),
        (X,),
    ),
    "like": (lambda x: (torch.zeros_like(x), x.new_ones(3), torch.full_like(x, 2)), (X,)),
    "empty": (lambda x: (x[:0], x[:0].sum(), torch.cat([x[:0], x])), (X,)),
    "written": (lambda x: x.clone().add_(1).mul_(2).clamp_(max=3).relu_(), (X,)),
    "written in part": (lambda x: _write_in_part(x.clone()), (X,)),
    "written by mask": (lambda x, m: _write_by_mask(x.clone(), m), (X, MASK)),
    "out": (lambda x, y: torch.add(x, y, out=torch.empty_like(x)), (X, Y)),
    "complex": (lambda x: torch.view_as_real(torch.view_as_complex(x.reshape(4, 3, 2)) * 2), (X,)),
    "sets": (lambda i: torch.isin(i, torch.tensor([1, 3]).to(i.device)), (IDS,)),
}  # fmt: skip


def _write_in_part(x: torch.Tensor) -> torch.Tensor:
    x[1] = 5
    x[:, 2:4] *= 3
    x.T[0].zero_()
    x[0, 0] = x[3, 3]
    return x


def _write_by_mask(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    x[mask] = -1.0
    x[mask[:, 0]] = x[0].clone()
    x[torch.tensor([0, 0]).to(x.device)] += 1
    return x


@pytest.mark.parametrize("name", CASES)
def test_an_operator_gives_what_it_gives_on_the_cpu(name: str, device: Device) -> None:
    function, arguments = CASES[name]
    here = torch.utils._pytree.tree_leaves(function(*arguments))
    there = torch.utils._pytree.tree_leaves(function(*(each.to(device) for each in arguments)))
    assert len(here) == len(there)
    for want, got in zip(here, there, strict=True):
        assert got.device.type == "remora"
        assert got.dtype == want.dtype
        assert torch.equal(got.cpu().nan_to_num(7), want.nan_to_num(7))


FACTORIES: dict[str, Callable[[Any], torch.Tensor]] = {
    "zeros": lambda device: torch.zeros(2, 3, device=device),
    "ones": lambda device: torch.ones(2, dtype=torch.int32, device=device),
    "full": lambda device: torch.full((2,), 7, device=device),
    "arange": lambda device: torch.arange(2, 9, 3, device=device),
    "linspace": lambda device: torch.linspace(0, 1, 5, device=device),
    "eye": lambda device: torch.eye(3, device=device),
    "tensor": lambda device: torch.tensor([[1, 2], [3, 4]], device=device),
    "single": lambda device: torch.tensor(2.5, device=device),
    "nothing": lambda device: torch.empty(0, 3, device=device),
}


@pytest.mark.parametrize("name", FACTORIES)
def test_a_tensor_is_made_there(name: str, device: Device) -> None:
    made, want = FACTORIES[name](device), FACTORIES[name]("cpu")
    assert made.device == torch.device(device)
    assert made.dtype == want.dtype
    assert torch.equal(made.cpu(), want)


def test_what_is_drawn_is_what_the_cpu_would_have_drawn(device: Device) -> None:
    def draw(where: Any) -> list[torch.Tensor]:
        torch.manual_seed(3)
        weights = torch.empty(3, 4, device=where)
        torch.nn.init.kaiming_uniform_(weights)
        return [
            torch.rand(4, device=where),
            torch.randn(2, 3, device=where),
            torch.randint(9, (5,), device=where),
            torch.randperm(6, device=where),
            weights,
            torch.zeros(8, device=where).normal_(1, 2),
            F.dropout(torch.ones(20, device=where)),
            torch.multinomial(torch.tensor([0.1, 0.9], device=where), 5, replacement=True),
            torch.bernoulli(torch.full((9,), 0.5, device=where)),
        ]

    for here, there in zip(draw("cpu"), draw(device), strict=True):
        assert torch.equal(there.cpu(), here)


def test_what_a_program_reads_of_a_tensor(device: Device) -> None:
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    there = x.to(device)
    assert there.tolist() == x.tolist()
    assert there.sum().item() == 10
    assert bool((there > 0).all())
    assert float(there[0, 1]) == 2
    assert torch.equal(there, x.to(device))
    assert not torch.equal(there, there + 1)
    assert torch.allclose(there, there + 1e-9)
    assert repr(there) == repr(x)[:-1] + ", device='remora:0')"
    assert (len(there), there.numel(), there.is_contiguous()) == (2, 4, True)
    assert there.cpu().numpy().sum() == 10


def test_memory_that_nobody_filled_is_nobody_elses(device: Device) -> None:
    x = torch.full((64, 64), 7.0).to(device)
    del x
    assert not torch.empty(64, 64, device=device).cpu().any()


def test_an_operator_that_no_server_runs_is_an_error_with_what_to_do(device: Device) -> None:
    x = X.to(device)
    with pytest.raises(CannotCapture, match=r"linalg_svd.* not one that a server runs.*\.cpu\("):
        torch.linalg.svd(x)
    assert torch.equal(x.cpu(), X)


def test_a_tensor_of_the_cpu_beside_one_of_the_device_is_an_error(device: Device) -> None:
    with pytest.raises(BadValue, match=r"on cpu beside those of the device.*\.to\(device\)"):
        X.to(device) + Y


def test_arguments_that_do_not_go_together_are_the_error_they_are_on_the_cpu(
    device: Device,
) -> None:
    with pytest.raises(RuntimeError, match="broadcast"):
        X.to(device) + Y.to(device)[:, :5]
    with pytest.raises(BadValue, match="uint16"):
        torch.empty(3, dtype=torch.uint16, device=device)


def test_an_out_of_another_shape_is_refused(device: Device) -> None:
    with pytest.raises(Exception, match="would resize"):
        torch.add(X.to(device), 1, out=torch.empty(1, device=device))


@pytest.mark.gradients
def test_the_gradient_of_a_selection_is_added_up(device: Device) -> None:
    def gradient(x: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        x = x.detach().requires_grad_()
        (given,) = torch.autograd.grad(x[places[0], places[1]].square().sum(), x)
        return given

    twice = torch.tensor([[3, 1, 3], [0, 3, 0]])
    there = gradient(X.to(device), twice.to(device)).cpu()
    assert torch.equal(there, gradient(X, twice))
