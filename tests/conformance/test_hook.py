"""The contract of a hook, held against every implementation.

The compiled one is built in the user's cache if it is not there; without a compiler it is skipped.
"""

from __future__ import annotations

import array
import ctypes
import itertools
import os
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import pytest
import torch
from tests.share.interception.hooks import built_or_skipped
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, Dataset

from remora.core.errors import BadValue
from remora.share.interception.contract import Gate, Hook
from remora.share.interception.registry import NAMES, create
from remora.share.slicing.call import is_view

WAIT_S = 60.0


@pytest.fixture(scope="module", params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return built_or_skipped(request.param)


@pytest.fixture
def hook(name: str) -> Iterator[Hook]:
    hook = create(name)
    yield hook
    hook.end()


class Words:
    """A gate's one pair, here."""

    def __init__(self) -> None:
        self.numbers = array.array("I", [0, 0])
        self.pairs = memoryview(self.numbers)

    def shut(self) -> None:
        self.numbers[0] += 1

    def open(self) -> None:
        self.numbers[1] = self.numbers[0]


@pytest.fixture
def words() -> Words:
    return Words()


@pytest.fixture
def shut(words: Words) -> Words:
    words.shut()
    return words


# ---------------------------------------------------------------- what passes


COMPUTE_NOTHING = {
    "profiler._record_function_enter_new.default",
    "profiler._record_function_exit._RecordFunction",
    "aten.squeeze_.dim",
}


class Kernels(TorchDispatchMode):
    """Notes each operator that reaches a kernel and computes."""

    def __init__(self, log: list[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.log = log

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not is_view(func) and str(func) not in COMPUTE_NOTHING:
            self.log.append(str(func))
        return func(*args, **(kwargs or {}))


def unguarded(log: list[str]) -> list[str]:
    """The kernels that ran without a passing since the one before."""
    pairs = itertools.pairwise(["", *log])
    return [now for before, now in pairs if now != "passing" and before != "passing"]


def is_guarded(hook: Hook, shut: Words, work: Callable[[], object]) -> Counter[str]:
    """All of ``work``'s kernels lie behind a passing each; how often each ran."""
    log: list[str] = []
    with Kernels(log):
        hook.begin(Gate(shut.pairs, lambda: log.append("passing")))
        try:
            work()
        finally:
            hook.end()
    assert unguarded(log) == []
    return Counter(each for each in log if each != "passing")


def mlp() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.ReLU(inplace=True), nn.Linear(8, 2))


OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "SGD": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, foreach=False),
    "SGD, by lists": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, foreach=True),
    "SGD, fused": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, fused=True),
    "AdamW": lambda p: torch.optim.AdamW(p, foreach=False),
    "AdamW, by lists": lambda p: torch.optim.AdamW(p, foreach=True),
    "AdamW, fused": lambda p: torch.optim.AdamW(p, fused=True),
}


def trained(optimizer: str, steps: int = 2) -> list[torch.Tensor]:
    model = mlp()
    chosen = OPTIMIZERS[optimizer](model.parameters())
    x, y = torch.randn(4, 8), torch.tensor([0, 1, 0, 1])
    for _ in range(steps):
        chosen.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        chosen.step()
    return [each.detach().clone() for each in model.parameters()]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_kernel_of_a_training_step_lies_behind_a_passing(
    hook: Hook, shut: Words, optimizer: str
) -> None:
    ran = is_guarded(hook, shut, lambda: trained(optimizer))
    step = {"fused": "_fused_", "lists": "_foreach_"}.get(optimizer.split()[-1], "aten.add")
    for kernel in ("aten.addmm", "aten.mm", "aten.relu_", step):
        assert any(kernel in each for each in ran), (kernel, ran)


def test_composite_operators_pass_kernel_by_kernel(hook: Hook, shut: Words) -> None:
    lstm, x = nn.LSTM(4, 4), torch.randn(5, 2, 4)
    attention = nn.MultiheadAttention(8, 2)
    y = torch.randn(3, 1, 8)

    def work() -> None:
        lstm(x)
        attention(y, y, y)
        torch.einsum("abc,cd->abd", x, torch.ones(4, 4))

    assert sum(is_guarded(hook, shut, work).values()) > 15


def test_what_a_kernel_calls_is_a_part_of_it(hook: Hook, shut: Words) -> None:
    x, y = torch.randn(3, 3, 3), torch.randn(2, 3, 3)
    count = itertools.count()
    hook.begin(Gate(shut.pairs, lambda: next(count)))
    torch.ops.aten.std_mean.correction(x, [0])  # calls others in turn
    torch.ops.aten.cat([x, y])
    hook.end()
    assert next(count) == 2


def test_functions_of_autograd_in_python_pass_operator_by_operator(hook: Hook, shut: Words) -> None:
    class Doubled(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x + x

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
            return gradient.mul(2).add(0)

    x = torch.randn(3, requires_grad=True)
    ran = is_guarded(hook, shut, lambda: Doubled.apply(x).sum().backward())  # type: ignore[no-untyped-call]
    assert ran["aten.add.Tensor"] == 2
    assert ran["aten.mul.Tensor"] == 1


@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode])
def test_modes_of_autograd(hook: Hook, shut: Words, around: Callable[[], Any]) -> None:
    model, x = mlp(), torch.randn(2, 8)

    def work() -> None:
        with around():
            model(x)

    is_guarded(hook, shut, work)


def test_transforms_of_functions(hook: Hook, shut: Words) -> None:
    w, x = torch.randn(3), torch.randn(4, 3)
    gradient = torch.func.vmap(torch.func.grad(lambda w, x: (w @ x).sin()), (None, 0))
    found = []
    ran = is_guarded(hook, shut, lambda: found.append(gradient(w, x)))
    assert any("cos" in each for each in ran)
    assert torch.equal(found[0], gradient(w, x))


class Marked(torch.Tensor):
    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        plain = [each.plain if isinstance(each, Marked) else each for each in args]
        return func(*plain, **(kwargs or {}))

    plain: torch.Tensor

    @staticmethod
    def of(plain: torch.Tensor) -> Marked:
        marked = torch.Tensor._make_subclass(Marked, torch.empty_like(plain))
        marked.plain = plain
        return marked


def test_tensor_subclasses_pass_and_see_what_they_saw(hook: Hook, shut: Words) -> None:
    x, passed = Marked.of(torch.ones(2)), itertools.count()
    hook.begin(Gate(shut.pairs, lambda: next(passed)))
    y = x + x
    hook.end()
    assert y.tolist() == [2, 2]
    assert next(passed) >= 1


def test_a_mode_of_the_program_sees_what_it_saw(hook: Hook, shut: Words) -> None:
    alone: list[str] = []
    with Kernels(alone):
        trained("SGD", 1)
    beside: list[str] = []
    hook.begin(Gate(shut.pairs, lambda: torch.ones(1).add(1)))
    with Kernels(beside):
        trained("SGD", 1)
    hook.end()
    assert beside == alone


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_values_are_the_same_bit_for_bit(hook: Hook, shut: Words, optimizer: str) -> None:
    alone = trained(optimizer, 3)
    hook.begin(Gate(shut.pairs, lambda: None, every=2))
    beside = trained(optimizer, 3)
    hook.end()
    assert all(torch.equal(a, b) for a, b in zip(alone, beside, strict=True))


# ---------------------------------------------------------------- the gate


def test_an_open_gate_is_not_asked_and_a_shut_one_is_each_time(hook: Hook, words: Words) -> None:
    asked, x = itertools.count(), torch.ones(1)
    hook.begin(Gate(words.pairs, lambda: next(asked)))
    for _ in range(5):
        torch.add(x, x)
    assert (next(asked), hook.operators) == (0, 5)
    words.shut()
    for _ in range(3):
        torch.add(x, x)
    assert (next(asked), hook.operators) == (4, 8)
    words.open()
    torch.add(x, x)
    assert (next(asked), hook.operators) == (5, 9)


def test_one_shut_pair_of_several_is_enough_and_none_is_open(hook: Hook) -> None:
    asked, x = itertools.count(), torch.ones(1)
    numbers = array.array("I", [7, 7, 3, 2, 0, 0])
    hook.begin(Gate(memoryview(numbers), lambda: next(asked)))
    torch.add(x, x)
    numbers[3] = 3
    torch.add(x, x)
    hook.end()
    hook.begin(Gate(memoryview(numbers)[:0], lambda: next(asked)))
    torch.add(x, x)
    assert next(asked) == 1


def test_numbers_wrap_around(hook: Hook) -> None:
    asked, x = itertools.count(), torch.ones(1)
    numbers = array.array("I", [0, 2**32 - 1])
    hook.begin(Gate(memoryview(numbers), lambda: next(asked)))
    torch.add(x, x)
    numbers[1] = 0
    torch.add(x, x)
    assert next(asked) == 1


@pytest.mark.parametrize("every", [1, 3, 7])
def test_every_so_many_operators_it_asks_at_an_open_gate(
    hook: Hook, words: Words, every: int
) -> None:
    asked, x = itertools.count(), torch.ones(1)
    hook.begin(Gate(words.pairs, lambda: next(asked), every=every))
    for _ in range(20):
        torch.add(x, x)
    hook.end()
    assert next(asked) == 20 // every


def test_operators_that_passing_runs_pass_freely(hook: Hook, shut: Words) -> None:
    x, seen = torch.ones(1), []

    def passing() -> None:
        seen.append((x + x).item())

    hook.begin(Gate(shut.pairs, passing, every=1))
    (x * 3).sub(1)
    hook.end()
    assert seen == [2.0, 2.0]
    assert hook.operators == 2


def test_gates_that_cannot_be(hook: Hook, words: Words) -> None:
    for pairs in (
        memoryview(b"12345678"), memoryview(array.array("I", [1, 1, 1])),
        memoryview(array.array("I", [1, 1, 1, 1]))[::2],
    ):  # fmt: skip
        with pytest.raises(BadValue, match="even count of native 32-bit numbers in a row"):
            hook.begin(Gate(pairs, lambda: None))
    with pytest.raises(BadValue, match="choose 0 for never"):
        hook.begin(Gate(words.pairs, lambda: None, every=-1))
    hook.begin(Gate(words.pairs, lambda: None))


# ---------------------------------------------------------------- begin and end


def test_at_most_one_is_begun(hook: Hook, words: Words) -> None:
    gate = Gate(words.pairs, lambda: None)
    hook.begin(gate)
    for other in (hook, *map(create, NAMES)):
        with pytest.raises(BadValue, match="stands before this process's operators already"):
            other.begin(gate)
        if other is not hook:
            other.end()
    torch.add(torch.ones(1), 1)
    assert hook.operators >= 1


def test_after_the_end_nothing_passes_and_it_may_begin_again(hook: Hook, shut: Words) -> None:
    asked, x = itertools.count(), torch.ones(1)
    gate = Gate(shut.pairs, lambda: next(asked))
    hook.end()
    for times in (1, 2):
        hook.begin(gate)
        for _ in range(times):
            torch.add(x, x)
        hook.end()
        hook.end()
        torch.add(x, x)
        assert hook.operators == times
    assert next(asked) == 3
    assert torch._C._len_torch_dispatch_stack() == 0


def test_it_leaves_no_trace(hook: Hook, shut: Words) -> None:
    before = (threading.Thread.start, torch.cuda.CUDAGraph.replay, list(sys.meta_path))
    hook.begin(Gate(shut.pairs, lambda: None))
    hook.end()
    assert (threading.Thread.start, torch.cuda.CUDAGraph.replay, list(sys.meta_path)) == before


def test_shared_memory_can_be_closed_after_the_end(hook: Hook) -> None:
    memory = SharedMemory(create=True, size=8)
    pairs = memoryview(memory.buf or b"").cast("I")
    hook.begin(Gate(pairs, lambda: None))
    torch.add(torch.ones(1), 1)
    hook.end()
    pairs.release()
    memory.close()
    memory.unlink()
    torch.add(torch.ones(1), 1)


def test_it_may_end_while_a_thread_waits_and_while_passing(hook: Hook, shut: Words) -> None:
    waits, goes = threading.Event(), threading.Event()

    def passing() -> None:
        hook.end()
        waits.set()
        goes.wait(WAIT_S)

    results: list[float] = []
    hook.begin(Gate(shut.pairs, passing))
    thread = threading.Thread(target=lambda: results.append((torch.ones(1) + 1).item()))
    thread.start()
    assert waits.wait(WAIT_S)
    torch.add(torch.ones(1), 1)  # not asked
    goes.set()
    thread.join(WAIT_S)
    hook.end()
    assert results == [2.0]
    assert torch._C._len_torch_dispatch_stack() == 0


def test_what_another_thread_ended_is_gone_where_it_begins_again(hook: Hook, words: Words) -> None:
    hook.begin(Gate(words.pairs, lambda: None))
    thread = threading.Thread(target=hook.end)
    thread.start()
    thread.join(WAIT_S)
    hook.begin(Gate(words.pairs, lambda: None))
    hook.end()
    assert torch._C._len_torch_dispatch_stack() == 0


def test_ending_from_another_thread_in_the_middle_of_work(hook: Hook, words: Words) -> None:
    x, is_over = torch.ones(1), threading.Event()

    def work() -> None:
        while not is_over.is_set():
            torch.add(x, x)

    for _ in range(20):
        is_over.clear()
        hook.begin(Gate(memoryview(array.array("I", [0, 0])), lambda: None, every=5))
        threads = [threading.Thread(target=work) for _ in range(3)]
        for each in threads:
            each.start()
        while hook.operators < 10:
            pass
        hook.end()
        is_over.set()
        for each in threads:
            each.join(WAIT_S)


# ---------------------------------------------------------------- threads


def test_threads_pass_each_and_are_counted(hook: Hook, shut: Words) -> None:
    seen: list[int] = []
    x = torch.ones(1)
    hook.begin(Gate(shut.pairs, lambda: seen.append(threading.get_ident())))
    all_here = threading.Barrier(3)

    def work() -> None:
        all_here.wait(WAIT_S)
        for _ in range(50):
            torch.add(x, x)
        all_here.wait(WAIT_S)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(WAIT_S)
    hook.end()
    assert hook.operators == 150
    assert sorted(Counter(seen).values()) == [50, 50, 50]


def test_a_thread_that_overrides_run_passes_and_is_as_it_was(hook: Hook, shut: Words) -> None:
    asked = itertools.count()

    class Own(threading.Thread):
        def run(self) -> None:
            torch.add(x, x)

    x, thread = torch.ones(1), Own()
    hook.begin(Gate(shut.pairs, lambda: next(asked)))
    thread.start()
    thread.join(WAIT_S)
    hook.end()
    assert next(asked) == 1
    assert "run" not in vars(thread)


def test_other_threads_go_on_while_one_waits(hook: Hook, shut: Words) -> None:
    waits, opened = threading.Event(), threading.Event()
    done: list[str] = []

    def passing() -> None:
        if threading.current_thread() is thread:
            waits.set()
            opened.wait(WAIT_S)

    def work() -> None:
        torch.add(torch.ones(1), 1)
        done.append("waiter")

    thread = threading.Thread(target=work)
    hook.begin(Gate(shut.pairs, passing))
    thread.start()
    assert waits.wait(WAIT_S)
    for _ in range(3):
        torch.add(torch.ones(1), 1)
    done.append("others")
    opened.set()
    thread.join(WAIT_S)
    assert done == ["others", "waiter"]


class Deep(torch.autograd.Function):
    """Goes backward within backward: beyond some depth in threads of autograd's own."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, depth: int) -> torch.Tensor:
        ctx.depth = depth
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        if ctx.depth:
            with torch.enable_grad():
                x = torch.ones(1, requires_grad=True)
                Deep.apply(x, ctx.depth - 1).backward()  # type: ignore[no-untyped-call]
        return gradient.mul(2), None


def went_deep(depth: int = 80) -> None:
    Deep.apply(torch.ones(1, requires_grad=True), depth).backward()  # type: ignore[no-untyped-call]


def test_threads_of_autograd_pass(hook: Hook, shut: Words) -> None:
    seen: set[int] = set()
    hook.begin(Gate(shut.pairs, lambda: seen.add(threading.get_ident())))
    went_deep()
    hook.end()
    assert len(seen) > 1


# ---------------------------------------------------------------- exceptions


class Stop(Exception):
    def __init__(self, one: int, other: int) -> None:
        super().__init__(one, other)


@pytest.mark.parametrize("error", [KeyboardInterrupt("now"), Stop(1, 2), SystemExit(3)])
def test_an_exception_reaches_the_program_as_it_is(
    hook: Hook, shut: Words, error: BaseException
) -> None:
    x, left = torch.ones(1), [3]

    def passing() -> None:
        left[0] -= 1
        if left[0] == 0:
            raise error

    def program() -> None:
        for _ in range(10):
            torch.add(x, x)

    hook.begin(Gate(shut.pairs, passing))
    with pytest.raises(type(error)) as caught:
        program()
    assert caught.value is error
    assert hook.operators == 3
    program()
    assert hook.operators == 13
    assert left == [-10]


def test_an_exception_in_backward_reaches_the_program_and_nothing_waits(
    hook: Hook, shut: Words
) -> None:
    model, error = mlp(), Stop(1, 2)
    loss, asked = model(torch.randn(2, 8)).sum(), []
    gradient = torch.ones(())

    def passing() -> None:
        asked.append(1)
        raise error

    def program() -> None:
        loss.backward(gradient)
        raise AssertionError("backward went on as if nothing had been")

    hook.begin(Gate(shut.pairs, passing))
    with pytest.raises(Stop) as caught:
        program()
    assert caught.value is error
    assert asked == [1], "who is on the way out is not asked again"


def test_an_exception_in_a_thread_of_autograd_reaches_the_program(hook: Hook, shut: Words) -> None:
    main, error = threading.get_ident(), Stop(1, 2)

    def passing() -> None:
        if threading.get_ident() != main:
            raise error

    def program() -> None:
        went_deep()
        raise AssertionError("backward went on as if nothing had been")

    hook.begin(Gate(shut.pairs, passing))
    with pytest.raises(Stop) as caught:
        program()
    assert caught.value is error


def test_an_exception_stays_in_its_thread(hook: Hook, shut: Words) -> None:
    x, caught = torch.ones(1), []

    def passing() -> None:
        if threading.current_thread() is thread:
            raise Stop(1, 2)

    def work() -> None:
        try:
            for _ in range(10):
                torch.add(x, x)
        except Stop as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    hook.begin(Gate(shut.pairs, passing))
    thread.start()
    thread.join(WAIT_S)
    for _ in range(10):
        torch.add(x, x)
    assert len(caught) == 1


# ---------------------------------------------------------------- processes

BEGIN = """
import array, os, signal, sys, threading, time
import torch
from remora.share.interception.contract import Gate
from remora.share.interception.registry import create

hook = create(sys.argv[1])
x = torch.ones(1)
numbers = array.array("I", [1, 0])
pairs = memoryview(numbers)
"""


def program(name: str, code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", BEGIN + textwrap.dedent(code), name, *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def printed(name: str, code: str) -> str:
    """What a process prints that ends well and says nothing else."""
    process = program(name, code)
    out, err = process.communicate(timeout=WAIT_S)
    assert (process.returncode, err) == (0, "")
    return out


def test_a_gate_that_another_process_shuts_and_opens(name: str) -> None:
    memory = SharedMemory(create=True, size=8)
    code = """
        from multiprocessing import resource_tracker, shared_memory
        memory = shared_memory.SharedMemory(sys.argv[2])
        resource_tracker.unregister(memory._name, "shared_memory")  # the other one's
        pairs = memory.buf.cast("I")

        def passing():
            print("shut", flush=True)
            while pairs[0] != pairs[1]:
                time.sleep(0.001)

        hook.begin(Gate(pairs, passing))
        for line in sys.stdin:
            torch.add(x, x)
            print("ran", flush=True)
        hook.end()
        pairs.release()
        memory.close()
    """
    process = program(name, code, memory.name)
    assert process.stdin is not None
    assert process.stdout is not None
    shared = ctypes.c_uint32 * 2
    numbers = shared.from_buffer(memory.buf or bytearray())

    def step() -> None:
        process.stdin.write("\n")  # type: ignore[union-attr]
        process.stdin.flush()  # type: ignore[union-attr]

    for _ in range(2):
        step()
        assert process.stdout.readline() == "ran\n"
        numbers[0] += 1
        step()
        assert process.stdout.readline() == "shut\n"
        numbers[1] = numbers[0]
        assert process.stdout.readline() == "ran\n"
    out, err = process.communicate(timeout=WAIT_S)
    assert (process.returncode, out, err) == (0, "", "")
    del numbers
    memory.close()
    memory.unlink()


def test_a_child_by_fork_begins_without_and_may_begin_itself(name: str) -> None:
    code = """
        asked = []
        hook.begin(Gate(pairs, lambda: asked.append(1)))
        torch.add(x, x)
        child = os.fork()
        if child == 0:
            torch.add(x, x)
            first = len(asked)
            hook.begin(Gate(pairs, lambda: asked.append(1)))
            torch.add(x, x)
            hook.end()
            torch.add(x, x)
            print(first, len(asked), hook.operators, flush=True)
            os._exit(0)
        os.waitpid(child, 0)
        torch.add(x, x)
        print(len(asked), hook.operators)
    """
    assert printed(name, code) == "1 2 1\n2 2\n"


def test_a_fork_while_threads_wait_and_pass(name: str) -> None:
    code = """
        goes = threading.Event()

        def passing():
            if threading.current_thread() is waiter:
                goes.wait()

        def work():
            while not goes.is_set():
                torch.add(x, x)

        torch.add(x, x)  # torch chooses a kernel under a lock of its own, once
        waiter = threading.Thread(target=lambda: torch.add(x, x))
        other = threading.Thread(target=work)
        hook.begin(Gate(pairs, passing))
        waiter.start()
        other.start()
        for _ in range(20):
            hook.end()
            hook.begin(Gate(pairs, passing))  # threads hear of it while the child is made
            child = os.fork()
            if child == 0:
                torch.add(x, x)
                hook.begin(Gate(pairs, lambda: None))
                torch.add(x, x)
                hook.end()
                os._exit(hook.operators)
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), end=" ")
        goes.set()
        waiter.join()
        other.join()
        hook.end()
    """
    assert printed(name, code) == "1 " * 20


class Rows(Dataset[torch.Tensor]):
    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.ones(2) * index


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_of_data_loaders_do_not_wait(hook: Hook, shut: Words, method: str) -> None:
    here = os.getpid()

    def passing() -> None:
        if os.getpid() != here:
            raise AssertionError("a worker was asked")

    hook.begin(Gate(shut.pairs, passing))
    loader = DataLoader(Rows(), batch_size=2, num_workers=1, multiprocessing_context=method)
    found = [each.sum().item() for each in loader]
    hook.end()
    assert found == [2.0, 10.0, 18.0]


@pytest.mark.parametrize("waits", ["time.sleep(0.001)", "threading.Event().wait()"])
def test_the_process_ends_while_a_thread_waits(name: str, waits: str) -> None:
    if name == "python" and "sleep" in waits:
        pytest.skip("torch aborts where Python ends a thread that is in a mode: docs/share.md")
    code = f"""
        waiting = threading.Event()

        def passing():
            waiting.set()
            while True:
                {waits}

        hook.begin(Gate(pairs, passing))
        threading.Thread(target=lambda: torch.add(x, x), daemon=True).start()
        waiting.wait()
        print("ends")
    """
    assert printed(name, code) == "ends\n"


def test_an_interrupt_ends_a_program_that_waits(name: str) -> None:
    code = """
        def passing():
            os.kill(os.getpid(), signal.SIGINT)
            while True:
                time.sleep(0.001)

        def program():
            try:
                for _ in range(10):
                    torch.add(x, x)
            except KeyboardInterrupt:
                print("interrupted")

        hook.begin(Gate(pairs, passing))
        program()
    """
    assert printed(name, code) == "interrupted\n"
