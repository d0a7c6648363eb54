"""Programs that train in threads, compile themselves or raise, learned from and checked."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli.shell import run

TRAIN = """
import torch
from torch import nn

torch.manual_seed(0)

def train(steps, out, seed=0):
    numbers = torch.Generator().manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    with torch.no_grad():
        for one in model.parameters():
            one.copy_(torch.randn(one.shape, generator=numbers))
    called = change(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = called(torch.randn(4, 4, generator=numbers)).pow(2).mean()
        loss.backward()
        optimizer.step()
    out[seed] = loss.item().hex()
    return model

out = {}
"""
ALONE = "change = lambda model: model\ntrain(6, out)\nprint(out)\n"
THREADS = """
import threading
change = lambda model: model
threads = [threading.Thread(target=train, args=(30, out, seed)) for seed in range(4)]
for one in threads: one.start()
for one in threads: one.join()
print(sorted(out.items()))
"""
COMPILED = """
change = lambda model: torch.compile(model, backend="eager", fullgraph=True)
train(4, out)
print(out)
"""
EXPORTED = """
change = lambda model: model
model = train(4, out)
print(len(torch.jit.script(model).code), out)
print(len(list(torch.export.export(model, (torch.ones(2, 4),), strict=True).graph.nodes)))
"""
MAPPED = """
change = lambda model: model
train(4, out)
weight, given = torch.ones(3), torch.randn(5, 3)
def loss(weight, one):
    return nn.functional.mse_loss((weight * one).sum(), torch.ones(()))
print(torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(weight, given).sum(), out)
"""


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("learned")
    (folder / "train.py").write_text(TRAIN + ALONE)
    done = run(folder, "run", "--learn", "healthy.inv", "train.py")
    assert done.returncode == 0, done
    return folder / "healthy.inv"


@pytest.mark.parametrize(
    "what",
    [
        pytest.param(THREADS, id="threads"),
        pytest.param(COMPILED, id="compiled", marks=pytest.mark.slow),
        pytest.param(EXPORTED, id="exported", marks=pytest.mark.slow),
        pytest.param(MAPPED, id="mapped", marks=pytest.mark.slow),
    ],
)
def test_it_runs_as_ever_and_is_watched_to_its_end(
    what: str, learned: Path, tmp_path: Path
) -> None:
    script = tmp_path / "train.py"
    script.write_text(TRAIN + what)
    alone = run(tmp_path, "run", "train.py")
    learning = run(tmp_path, "run", "--learn", "own.inv", "train.py")
    checking = run(tmp_path, "run", "--check", str(learned), "train.py")

    assert alone.returncode == learning.returncode == checking.returncode == 0, (learning, checking)
    assert alone.stdout == learning.stdout == checking.stdout
    assert "detached" not in learning.stderr + checking.stderr
    assert "in own.inv" in learning.stderr
    assert "invariants over" in checking.stderr
    assert ("several threads train" in checking.stderr) is (what is THREADS)


@pytest.mark.slow
def test_a_traceback_is_that_of_the_program(learned: Path, tmp_path: Path) -> None:
    wrong = "change = lambda model: nn.Linear(3, 3)\ntrain(2, out)\n"
    (tmp_path / "train.py").write_text(TRAIN + wrong)
    done = run(tmp_path, "run", "--check", str(learned), "train.py")

    assert done.returncode == 1
    assert "shapes cannot be multiplied" in done.stderr
    assert "remora/tap" not in done.stderr


@pytest.mark.slow
def test_what_ends_the_job_for_a_violation_ends_it_with_1(learned: Path, tmp_path: Path) -> None:
    text = (TRAIN + ALONE).replace("        optimizer.zero_grad()\n", "")
    (tmp_path / "train.py").write_text(text)
    done = run(
        tmp_path, "run", "--check", str(learned), "--on-violation", "raise", "train.py"
    )  # fmt: skip

    assert done.returncode == 1
    assert "does not hold" in done.stderr


@pytest.mark.slow
def test_where_nothing_can_be_written_nothing_is_started(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("print('begun')\n")
    done = run(tmp_path, "run", "--learn", "nowhere/healthy.inv", "train.py")

    assert (done.returncode, done.stdout) == (2, "")
    assert "cannot be written" in done.stderr


@pytest.mark.slow
def test_a_function_that_is_never_defined_is_named(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(TRAIN + ALONE)
    done = run(tmp_path, "run", "--learn", "own.inv", "--watch", "__main__.trian", "train.py")

    assert "--watch __main__.trian was not watched: the program never defined it" in done.stderr
