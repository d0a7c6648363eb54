"""A program as Python's command line names it: a file, a folder or archive, a module, stdin.

Whatever can be found wrong with it is found here, before anything of the process is changed.
"""

from __future__ import annotations

import ast
import importlib.util
import marshal
import os
import sys
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from importlib.machinery import BuiltinImporter, SourceFileLoader, SourcelessFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from remora.core.errors import ScriptUnusable
from remora.tap.calls import awaited_in_main


class Program(ABC):
    """Something to run as ``__main__``."""

    argv0: str
    path0: str
    """What Python puts first on ``sys.path`` for it."""

    @abstractmethod
    def run(self, main: ModuleType) -> None:
        """Run in ``main``, the fresh ``__main__`` module; raises whatever the program raises."""


class Script(Program):
    """A source file (or a compiled ``.pyc``)."""

    def __init__(self, name: str) -> None:
        path = Path(name)
        try:
            self._content = path.read_bytes()
        except OSError as error:
            reason = "does not exist" if not path.exists() else f"cannot be read: {error.strerror}"
            raise ScriptUnusable(
                f"script {name!r} {reason}; give the path of a Python file, or -m and a module"
            ) from None
        self.argv0 = name
        self._file = _absolute(name)
        self.path0 = str(Path(os.path.realpath(name)).parent)

    def run(self, main: ModuleType) -> None:
        compiled = self._content[:4] == importlib.util.MAGIC_NUMBER
        loader = SourcelessFileLoader if compiled else SourceFileLoader
        main.__loader__ = loader("__main__", self._file)
        main.__file__ = self._file
        main.__dict__["__cached__"] = None
        code = marshal.loads(self._content[16:]) if compiled else self._compile()
        exec(code, main.__dict__)

    def _compile(self) -> CodeType:
        return compile_main(self._content, self._file)


class Standard(Program):
    """``-``: a program read from standard input."""

    argv0, path0 = "-", ""

    def run(self, main: ModuleType) -> None:
        main.__loader__ = BuiltinImporter
        main.__file__ = "<stdin>"
        main.__dict__["__cached__"] = None
        exec(compile_main(sys.stdin.buffer.read(), "<stdin>"), main.__dict__)


class Module(Program):
    """``-m name``: a module or package on the path. Python's own runpy runs it, as it would."""

    def __init__(self, name: str) -> None:
        self.argv0 = "-m"
        self.path0 = str(Path.cwd())
        self._name = name
        with _first_on_path(self.path0):
            top = name.partition(".")[0]
            if not top.isidentifier() or importlib.util.find_spec(top) is None:
                raise ScriptUnusable(
                    f"no module named {top!r}; install it, or run from the folder that holds it"
                )

    def run(self, main: ModuleType) -> None:
        _run_module(self._name, alter_argv=True)


class Container(Program):
    """A folder or zip archive with a ``__main__.py``."""

    def __init__(self, name: str) -> None:
        self.argv0 = name
        self.path0 = _absolute(name)

    def run(self, main: ModuleType) -> None:
        _run_module("__main__", alter_argv=False)


def program(name: str, *, module: bool = False) -> Program:
    """What ``name`` stands for on Python's command line.

    Raises:
        ScriptUnusable: there is no such script or module, or it cannot be read.
    """
    if module:
        return Module(name)
    if name == "-":
        return Standard()
    if Path(name).is_dir():
        if not any(Path(name, f"__main__.{suffix}").is_file() for suffix in ("py", "pyc")):
            raise ScriptUnusable(f"folder {name!r} has no __main__.py; give the script in it")
        return Container(name)
    if zipfile.is_zipfile(name):
        if not {"__main__.py", "__main__.pyc"} & set(zipfile.ZipFile(name).namelist()):
            raise ScriptUnusable(f"archive {name!r} has no __main__.py at its top")
        return Container(name)
    return Script(name)


def compile_main(source: bytes, file: str) -> CodeType:
    """Compile a main program.

    Where a tap waits for a function the program has yet to define (``__main__.f``), a statement
    after each that binds its name tells the tap; line numbers stay what they are.
    """
    names = awaited_in_main()
    if not names:
        return compile(source, file, "exec", dont_inherit=True)
    tree = ast.parse(source, file)
    _tell_when_bound(tree, names)
    return compile(tree, file, "exec", dont_inherit=True)


def _tell_when_bound(node: ast.AST, names: set[str]) -> None:
    for field in ("body", "orelse", "finalbody", "handlers", "cases"):
        statements = getattr(node, field, None)
        if not isinstance(statements, list):
            continue
        for position in range(len(statements) - 1, -1, -1):
            statement = statements[position]
            if names & set(_bound_by(statement)):
                statements.insert(position + 1, _notice(statement))
            elif not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                _tell_when_bound(statement, names)


def _bound_by(statement: ast.AST) -> Iterator[str]:
    match statement:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            yield statement.name
        case ast.Import() | ast.ImportFrom():
            for alias in statement.names:
                yield (alias.asname or alias.name).partition(".")[0]
        case ast.Assign():
            yield from (target.id for target in statement.targets if isinstance(target, ast.Name))


def _notice(after: ast.AST) -> ast.stmt:
    call = "__import__('remora.tap.calls', fromlist=['calls']).resolve_in_main()"
    statement = ast.parse(call).body[0]
    line = getattr(after, "end_lineno", None) or after.lineno  # type: ignore[attr-defined]
    for node in ast.walk(statement):
        if isinstance(node, ast.expr | ast.stmt):
            node.lineno = node.end_lineno = line
            node.col_offset = node.end_col_offset = 0
    return statement


def _run_module(name: str, *, alter_argv: bool) -> None:
    import runpy

    # The very function Python's own `-m` calls: its frames are part of the traceback people know.
    run: Any = runpy._run_module_as_main  # type: ignore[attr-defined]
    run(name, alter_argv)


def _absolute(name: str) -> str:
    """As Python makes it: the working directory in front, and nothing tidied."""
    return os.path.join(Path.cwd(), name)  # noqa: PTH118  pathlib would tidy it


class _first_on_path:  # noqa: N801  reads as a statement
    def __init__(self, folder: str) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        sys.path.insert(0, self._folder)

    def __exit__(self, *_: object) -> None:
        sys.path.remove(self._folder)
