"""A program under ``remora run`` behaves as under Python: the two are run and compared whole."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
import zipfile
from pathlib import Path

import pytest

SCRIPTS = {
    "arguments": "import sys; print(sys.argv, sys.path[0], __name__, __file__)",
    "main_attributes": """
        import sys
        for key, value in list(globals().items()):
            shown = (type(value), value.path) if key == "__loader__" else repr(value)
            print(key, shown)
        print(sys.modules["__main__"].__dict__ is globals(), sys.flags, sys.excepthook)
    """,
    "exit_none": "import sys; sys.exit()",
    "exit_number": "import sys; sys.exit(7)",
    "exit_large": "import sys; sys.exit(300)",
    "exit_negative": "import sys; sys.exit(-1)",
    "exit_true": "import sys; sys.exit(True)",
    "exit_text": "import sys; print('out'); sys.exit('gone wrong')",
    "exit_object": "raise SystemExit([1, 2])",
    "raises": """
        def inner(x):
            return 1 / x
        def outer():
            return [inner(n) for n in (1, 0)]
        outer()
    """,
    "chained": """
        def fail(): raise ValueError("first")
        try:
            fail()
        except ValueError as error:
            raise KeyError("second") from error
    """,
    "during_handling": """
        try:
            {}["a"]
        except KeyError:
            undefined_name
    """,
    "exception_group": "raise ExceptionGroup('many', [ValueError(1), TypeError('x')])",
    "with_note": "e = ValueError('x'); e.add_note('look here'); raise e",
    "base_exception": "raise GeneratorExit('odd')",
    "syntax_error": "x = 1\nprint(x))\n",
    "indentation_error": "if True:\nx = 1\n",
    "import_error": "import no_such_module_anywhere",
    "error_in_import": "import neighbour_that_raises",
    "own_hook": """
        import sys
        def hook(kind, value, trace):
            print("hook:", kind.__name__, value, trace.tb_frame.f_code.co_name, trace.tb_next)
        sys.excepthook = hook
        raise RuntimeError("seen by the hook")
    """,
    "hook_that_exits": """
        import sys
        def hook(*args): sys.exit(5)
        sys.excepthook = hook
        raise RuntimeError
    """,
    "hook_that_raises": """
        import sys
        def hook(*args): raise ValueError("in the hook")
        sys.excepthook = hook
        raise RuntimeError("the first")
    """,
    "hook_deleted": "import sys\ndel sys.excepthook\nraise RuntimeError('no hook')",
    "at_exit": """
        import atexit
        atexit.register(print, "first in")
        atexit.register(print, "last in")
        print("body")
        raise ValueError("then the handlers")
    """,
    "threads": """
        import threading, time
        def late():
            time.sleep(0.2)
            print("thread", threading.current_thread().name, threading.main_thread().name)
        threading.Thread(target=late, name="t").start()
        print("body done")
    """,
    "thread_pool": """
        from concurrent.futures import ThreadPoolExecutor
        print(list(ThreadPoolExecutor(2).map(abs, [-1, -2])))
    """,
    "thread_raises": """
        import threading
        def fail(): raise ValueError("in a thread")
        t = threading.Thread(target=fail, name="t"); t.start(); t.join()
    """,
    "future_import": (
        "from __future__ import annotations\ndef f(x: undefined): ...\nprint(f.__annotations__)"
    ),
    "no_future_leak": "try:\n    def f(x: undefined): ...\nexcept NameError as e: print(e)",
    "pickling": """
        import pickle
        class Point:
            def __init__(self, x): self.x = x
        copy = pickle.loads(pickle.dumps(Point(3)))
        print(type(copy) is Point, copy.x, Point.__module__)
    """,
    "dataclass": """
        from __future__ import annotations
        import dataclasses, typing
        @dataclasses.dataclass
        class P:
            x: typing.ClassVar[int]
            y: int = 1
        print(P(), typing.get_type_hints(P))
    """,
    "reads_input": "import sys; print(sys.stdin.read().upper(), sys.stdin.isatty())",
    "interrupted": "print('body'); raise KeyboardInterrupt",
    "interrupted_at_exit": """
        import atexit, os, signal
        atexit.register(print, "handler")
        os.kill(os.getpid(), signal.SIGINT)
        import time; time.sleep(5)
    """,
    "terminated": "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
    "handles_termination": """
        import os, signal, sys
        def handle(number, frame):
            print("caught", number, frame.f_code.co_name); sys.exit(9)
        signal.signal(signal.SIGTERM, handle)
        os.kill(os.getpid(), signal.SIGTERM)
        import time; time.sleep(5)
    """,
    "handlers": "from signal import *; print(getsignal(SIGINT), getsignal(SIGTERM))",
    "fork": """
        import os, sys
        pid = os.fork()
        if pid == 0:
            print("child", flush=True); sys.exit(3)
        print("parent", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    """,
    "eof_error": "raise EOFError('not for the command line to catch')",
    "broken_pipe": "raise BrokenPipeError(32, 'not for the command line to catch')",
    "user_error": "class UserError(Exception): ...\nraise UserError('the script\\'s own')",
    "unraisable": "class A:\n    def __del__(self): 1/0\na = A(); del a",
    "warning": "import warnings\ndef f(): warnings.warn('mind', stacklevel=2)\nf()",
    "encoding": "# -*- coding: latin-1 -*-\nprint('plain')",
    "asyncio": "import asyncio\nasync def main(): return 5\nprint(asyncio.run(main()))",
    "empty": "",
}
for _method in ("spawn", "fork", "forkserver"):
    SCRIPTS[f"pool_{_method}"] = f"""
        import multiprocessing, os, sys
        class Thing:
            def __init__(self, n): self.n = n
        def double(thing): return thing.n * 2, __name__, Thing.__module__
        def fail(n): raise ValueError(n)
        if __name__ == "__main__":
            with multiprocessing.get_context("{_method}").Pool(2) as pool:
                print(pool.map(double, [Thing(1), Thing(2)]))
                try:
                    pool.map(fail, [1])
                except ValueError as error:
                    print("raised", error)
            child = multiprocessing.get_context("{_method}").Process(target=sys.exit, args=(4,))
            child.start(); child.join(); print(child.exitcode)
    """

Outcome = tuple[int, str, str]


def outcome(command: list[str], where: Path, *, text: str = "input") -> Outcome:
    done = subprocess.run(
        command, cwd=where, input=text, capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, without_addresses(done.stdout), without_addresses(done.stderr)


def without_addresses(text: str) -> str:
    return re.sub(r" at 0x[0-9a-f]+", " at 0x…", text)


def plain(where: Path, *arguments: str, text: str = "input") -> Outcome:
    return outcome([sys.executable, *arguments], where, text=text)


def riding(where: Path, *arguments: str, text: str = "input") -> Outcome:
    return outcome([sys.executable, "-m", "remora", "run", *arguments], where, text=text)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_cannot_tell_the_difference(name: str, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(textwrap.dedent(SCRIPTS[name]))
    (tmp_path / "neighbour_that_raises.py").write_text("def f():\n    1 / 0\nf()\n")

    expected = plain(tmp_path, "script.py", "a", "--strict", "--", "-m")
    found = riding(tmp_path, "script.py", "a", "--strict", "--", "-m")

    assert found == expected


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "pkg"
    folder.mkdir()
    (folder / "__init__.py").write_text("print('package', __name__)\n")
    show = (
        "import sys; print(__name__, __package__, __spec__.name, __file__, sys.argv, sys.path[0])"
    )
    (folder / "__main__.py").write_text(f"from . import part\n{show}\n")
    (folder / "part.py").write_text("VALUE = 1\n")
    (folder / "raises.py").write_text("from .part import VALUE\nVALUE / 0\n")
    (folder / "interrupted.py").write_text("raise KeyboardInterrupt\n")
    (folder / "pool.py").write_text(
        "import multiprocessing\ndef f(n): return n, __name__\n"
        "if __name__ == '__main__':\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as p: print(p.map(f, [1]))\n"
    )
    (folder / "exits.py").write_text("raise SystemExit(6)\n")
    return tmp_path


@pytest.mark.parametrize("module", ["", ".raises", ".interrupted", ".pool", ".exits", ".missing"])
def test_a_module_cannot_tell_the_difference(module: str, package: Path) -> None:
    arguments = ("-m", f"pkg{module}", "x", "-y")

    assert riding(package, *arguments) == plain(package, *arguments)


def test_a_folder_and_an_archive_cannot_tell_the_difference(tmp_path: Path) -> None:
    program = "import sys, other\nprint(sys.argv, sys.path[0], __file__, __spec__)\nother.f()\n"
    other = "def f(): raise ValueError('here')\n"
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "__main__.py").write_text(program)
    (folder / "other.py").write_text(other)
    with zipfile.ZipFile(tmp_path / "app.pyz", "w") as archive:
        archive.writestr("__main__.py", program)
        archive.writestr("other.py", other)

    for name in ("folder", "./folder", "app.pyz"):
        assert riding(tmp_path, name, "a") == plain(tmp_path, name, "a")


def test_a_script_on_standard_input_cannot_tell_the_difference(tmp_path: Path) -> None:
    program = "import sys\nprint(sys.argv, __file__, sys.path[0])\n1 / 0\n"

    assert riding(tmp_path, "-", "a", text=program) == plain(tmp_path, "-", "a", text=program)


@pytest.mark.parametrize("given", ["./script.py", "sub/../script.py", "link.py", "sub/link.py"])
def test_paths_are_what_python_makes_of_them(given: str, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "script.py").write_text("import sys; print(sys.argv, sys.path[0], __file__)")
    (tmp_path / "link.py").symlink_to("script.py")
    (tmp_path / "sub" / "link.py").symlink_to("../script.py")

    assert riding(tmp_path, given) == plain(tmp_path, given)
    absolute = str(tmp_path / given)
    assert riding(tmp_path, absolute) == plain(tmp_path, absolute)


def test_a_compiled_script_runs(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("print(__file__, __loader__.__class__, __name__)")
    compile_it = "import py_compile; py_compile.compile('script.py', 'script.pyc')"
    plain(tmp_path, "-c", compile_it)

    assert riding(tmp_path, "script.pyc") == plain(tmp_path, "script.pyc")


def test_the_safe_path_option_is_kept(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("import sys; print(sys.path)")

    expected = outcome([sys.executable, "-P", "script.py"], tmp_path)
    found = outcome([sys.executable, "-P", "-m", "remora", "run", "script.py"], tmp_path)

    assert found == expected


def test_a_signal_from_outside_ends_both_alike(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("print('up', flush=True)\nimport time\ntime.sleep(30)\n")

    def interrupted(*command: str) -> Outcome:
        process = subprocess.Popen(
            [sys.executable, *command], cwd=tmp_path, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        up = process.stdout.readline()
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        return process.returncode, up + out, err

    expected = interrupted("script.py")
    assert expected[0] == -signal.SIGINT
    assert interrupted("-m", "remora", "run", "script.py") == expected


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("missing.py",), "script 'missing.py' does not exist"),
        (("empty_folder",), "folder 'empty_folder' has no __main__.py"),
        (("empty.zip",), "archive 'empty.zip' has no __main__.py"),
        (("-m", "no_such_module_anywhere"), "no module named 'no_such_module_anywhere'"),
        (("script.py/x.py",), "script 'script.py/x.py' does not exist"),
    ],
)
def test_what_cannot_be_run_is_said_in_one_line(
    arguments: tuple[str, ...], says: str, tmp_path: Path
) -> None:
    (tmp_path / "script.py").touch()
    (tmp_path / "empty_folder").mkdir()
    zipfile.ZipFile(tmp_path / "empty.zip", "w").close()

    code, out, err = riding(tmp_path, *arguments)

    assert code == 2
    assert out == ""
    assert says in err
    assert err.count("\n") == 1
    assert "Traceback" not in err


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_an_unreadable_script_is_said_in_one_line(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.touch()
    script.chmod(0)

    code, _, err = riding(tmp_path, "script.py")

    assert code == 2
    assert "cannot be read: Permission denied" in err


def test_the_command_line_is_light() -> None:
    code = (
        "import sys, time; began = time.process_time(); import remora.cli;"
        "print((time.process_time() - began) * 1e3, {'torch', 'numpy'} & set(sys.modules) != set())"
    )
    runs = [plain(Path.cwd(), "-c", code)[1].split() for _ in range(3)]

    assert all(run[1] == "False" for run in runs)
    assert min(float(run[0]) for run in runs) < 300
