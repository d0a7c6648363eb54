"""How a checkpointed script is ended, refused or started over, as a user sees it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.checkpoint.ride.conftest import Ride

TINY = """
import sys, time, torch
torch.manual_seed(0)
net = torch.nn.Linear(4, WIDTH)
sgd = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(STEPS):
    sgd.zero_grad()
    loss = net(torch.randn(3, 4)).pow(2).mean()
    loss.backward()
    sgd.step()
    EXTRA
    print(step, loss.item(), flush=True)
    time.sleep(0.02)
"""


def tiny(folder: Path, *, width: int = 2, steps: int = 12, extra: str = "pass") -> Ride:
    script = folder / "tiny.py"
    text = TINY.replace("WIDTH", str(width)).replace("STEPS", str(steps))
    script.write_text(text.replace("EXTRA", extra))
    return Ride(folder, script)


@pytest.mark.slow  # starts several processes
def test_a_preemption_notice_saves_and_exits_143_and_loses_no_step(tmp_path: Path) -> None:
    ride = tiny(tmp_path, steps=60)
    undisturbed = ride.plainly()
    told = ride.killed(4, every="1000", number=signal.SIGTERM)
    resumed = ride.ridden(every="1000")

    assert told.code == 143, told.errors
    assert "told to end: saving step" in told.errors
    done = told.output.count("\n")
    assert f"resumed at step {done} " in resumed.errors
    assert resumed.output == undisturbed.output


@pytest.mark.slow
def test_a_scripts_own_handler_of_sigterm_wins(tmp_path: Path) -> None:
    handler = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))"
    ride = tiny(tmp_path, steps=200, extra=f"import signal; {handler}")

    assert ride.killed(3, number=signal.SIGTERM).code == 7


@pytest.mark.slow
def test_ctrl_c_ends_it_as_python_does_and_it_resumes(tmp_path: Path) -> None:
    ride = tiny(tmp_path, steps=60)
    undisturbed = ride.plainly()
    interrupted = ride.killed(8, number=signal.SIGINT)
    resumed = ride.ridden()

    assert interrupted.code == -signal.SIGINT
    assert "KeyboardInterrupt" in interrupted.errors
    assert resumed.output == undisturbed.output


@pytest.mark.slow
def test_a_script_that_exits_with_a_failure_is_not_complete(tmp_path: Path) -> None:
    once = (
        "if step == 7 and not (seen := __import__('pathlib').Path('seen')).exists(): "
        "seen.touch() or sys.exit(3)"
    )
    undisturbed = tiny(tmp_path).plainly()
    ride = tiny(tmp_path, extra=once)
    failed = ride.ridden()
    resumed = ride.ridden()

    assert failed.code == 3
    assert resumed.code == 0, resumed.errors
    assert "resumed at step 6 " in resumed.errors
    assert resumed.output == undisturbed.output


@pytest.mark.slow
def test_a_run_that_is_complete_replays_to_its_end_and_says_so(tmp_path: Path) -> None:
    ride = tiny(tmp_path)
    first, again = ride.ridden(), ride.ridden()

    assert (again.code, again.output) == (0, first.output)
    assert "this run had come to its end" in again.errors
    assert "nothing was left to do" in again.errors


@pytest.mark.slow
def test_files_of_weights_are_not_written_over_in_replay(tmp_path: Path) -> None:
    ride = tiny(tmp_path, extra="torch.save(net.state_dict(), 'weights.pt')")
    ride.ridden()
    first = (tmp_path / "weights.pt").read_bytes()
    ride.ridden()

    assert (tmp_path / "weights.pt").read_bytes() == first


@pytest.mark.slow
def test_a_script_that_reads_otherwise_is_refused_in_one_line(tmp_path: Path) -> None:
    tiny(tmp_path, steps=60).killed(8)
    changed = tiny(tmp_path, steps=60, extra="net.bias.sum().tolist()").ridden()

    assert changed.code == 2
    last = changed.errors.splitlines()[-1]
    assert last.startswith("remora: the script does not do what it did the first time: after 1 ")
    assert "tiny.py:11" in last
    assert "--fresh" in last
    assert "Traceback" not in changed.errors


@pytest.mark.slow
def test_another_model_is_refused_in_one_line(tmp_path: Path) -> None:
    tiny(tmp_path, steps=60).killed(8)
    changed = tiny(tmp_path, width=5, steps=60).ridden()

    assert changed.code == 2
    assert "does not fit" in changed.errors.splitlines()[-1]
    assert "Traceback" not in changed.errors


@pytest.mark.slow
def test_fresh_starts_over_and_keeps_what_was_there_until_its_first_commit(tmp_path: Path) -> None:
    ride = tiny(tmp_path, steps=60)
    undisturbed = ride.plainly()
    ride.killed(12)
    ride.killed(2, "--fresh", every="1000")  # no checkpoint of its own yet
    resumed = ride.ridden()

    assert "resumed at step" in resumed.errors
    assert resumed.output == undisturbed.output

    ride.killed(12, "--fresh")
    again = ride.ridden()
    assert "resumed at step" in again.errors
    assert again.output == undisturbed.output


@pytest.mark.slow
def test_another_script_is_refused(tmp_path: Path) -> None:
    ride = tiny(tmp_path)
    ride.ridden()
    other = tmp_path / "other.py"
    other.write_text(ride.script.read_text())
    refused = Ride(tmp_path, other).ridden()

    assert refused.code == 2
    assert "checkpoints are of" in refused.errors


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--checkpoint", "file"), "cannot be written"),
        (("--checkpoint", "strange"), "holds no checkpoints but other files"),
        (("--checkpoint", "new", "--every", "0"), "choose a number of steps from 1, or auto"),
        (("--checkpoint", "new", "--keep", "1"), "choose 2 or more"),
        (("--checkpoint", "new", "--max-overhead", "200%"), "choose a share"),
    ],
    ids=["a file", "strange", "every", "keep", "overhead"],
)
def test_bad_input_is_one_line_before_the_script_runs(
    tmp_path: Path, options: tuple[str, ...], says: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange" / "thesis.tex").touch()
    (tmp_path / "s.py").write_text("print('ran')")
    done = subprocess.run(
        [sys.executable, "-m", "remora", "run", *options, "s.py"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
