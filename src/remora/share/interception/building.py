"""Build the compiled hook when it is first wanted, once for a version of torch on a machine.

A compiler and the headers that come with torch are enough: neither Python's headers nor ninja are
needed. What was built is one file in the user's cache, written whole or not at all, that ends with
its own digest. Several processes may build at once: the last one's stays.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import xxhash

from remora.core.errors import Unavailable
from remora.core.saying import say
from remora.core.user_cache import user_cache

SOURCE = Path(__file__).with_name("hook.cpp")
TIMEOUT_S = 300.0
"""A build takes some seconds; on a machine that is very busy, some dozens."""
SAID_AFTER_S = 1.0
"""Who waits longer is told for what."""
COMPILERS = ("c++", "g++", "clang++")
FLAGS = ("-O2", "-std=c++20", "-shared", "-fPIC", "-fvisibility=hidden", "-w")
ELSE = "or use the hook python"


def default_folder() -> Path:
    """In the user's cache."""
    return user_cache() / "hooks"


@dataclass(frozen=True)
class Build:
    """How the hook is built, and where what was built is kept.

    Args:
        folder: made when it is first needed.
        environ: where ``CXX`` and ``PATH`` are looked up.
        timeout_s: how long the compiler may take.
    """

    folder: Path = field(default_factory=default_folder)
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    timeout_s: float = TIMEOUT_S
    source: Path = SOURCE
    report: Callable[[str], object] = say

    def built(self) -> Path | None:
        """The file, if it is there and whole."""
        path = self._path()
        try:
            return path if _is_whole(path.read_bytes()) and _is_ours(path) else None
        except OSError:
            return None

    def build(self) -> Path:
        """The file, built if need be.

        Raises:
            Unavailable: it cannot be built here; the message says why, and what would help.
        """
        if found := self.built():
            return found
        compiler = self._compiler()
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not _is_ours(self.folder):
                raise PermissionError("others may write there")
            with tempfile.TemporaryDirectory(prefix=".build-", dir=self.folder) as name:
                self._compile(compiler, Path(name))
        except OSError as error:
            raise Unavailable(
                f"the compiled hook cannot be kept in {self.folder} ({error}); set XDG_CACHE_HOME "
                f"to a folder of yours, {ELSE}"
            ) from error
        return self._path()

    def _compiler(self) -> list[str]:
        named = shlex.split(self.environ.get("CXX", ""))
        for words in [named] if named else [[each] for each in COMPILERS]:
            if shutil.which(words[0], path=self.environ.get("PATH", os.defpath)):
                return words
        looked = (
            f"CXX={shlex.join(named)} is not" if named else f"none of {', '.join(COMPILERS)} is"
        )
        raise Unavailable(
            f"the compiled hook needs a C++ compiler, and {looked} here; install one (Debian and "
            f"Ubuntu: apt-get install g++), {ELSE}"
        )

    def _compile(self, compiler: list[str], aside: Path) -> None:
        made = aside / "hook.so"
        command = [*compiler, *FLAGS, str(self.source), "-o", str(made), *_torch_options()]
        log, why = self._run(command)
        kept = self._path().with_suffix(".log")
        if why is not None:
            kept.write_text(f"{shlex.join(command)}\n{log}")
            raise Unavailable(
                f"the compiled hook could not be built: {compiler[0]} {why}; see {kept}, {ELSE}"
            )
        data = made.read_bytes()
        made.write_bytes(data + _digest(data))
        made.chmod(0o700)
        made.replace(self._path())
        kept.unlink(missing_ok=True)

    def _run(self, command: list[str]) -> tuple[str, str | None]:
        """What it printed, and why there is nothing, if so."""
        process = subprocess.Popen(
            command, env={**self.environ, "LC_ALL": "C"}, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace",
        )  # fmt: skip
        try:
            log = self._output(process)
        except subprocess.TimeoutExpired as error:
            return _text(error.output), f"took more than {self.timeout_s:g} s"
        finally:
            if process.poll() is None:  # it starts others, which go on without it
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        return log, None if process.returncode == 0 else f"failed ({process.returncode})"

    def _output(self, process: subprocess.Popen[str]) -> str:
        said_after_s = min(SAID_AFTER_S, self.timeout_s)
        try:
            return process.communicate(timeout=said_after_s)[0]
        except subprocess.TimeoutExpired:
            self.report("remora: building the hook that stands before operators, once …")
            return process.communicate(timeout=max(0.0, self.timeout_s - said_after_s))[0]

    def _path(self) -> Path:
        return self.folder / f"hook-{_key(self.source)}.so"


def _key(source: Path) -> str:
    """What it was built from and for."""
    import torch

    parts = (
        *(torch.__version__, str(torch.version.git_version)),
        *(str(torch.compiled_with_cxx11_abi()), str(sys.implementation.cache_tag)),
        *(sysconfig.get_platform(), *FLAGS),
    )
    return xxhash.xxh3_64_hexdigest(source.read_bytes() + "\0".join(parts).encode())


def _torch_options() -> list[str]:
    """Where torch's headers and libraries are.

    Raises:
        Unavailable: this torch came without headers.
    """
    import torch

    home = Path(torch.__file__).parent
    if not (home / "include" / "ATen" / "record_function.h").exists():
        raise Unavailable(
            f"the compiled hook needs torch's headers, and there are none in {home / 'include'}; "
            f"install torch from its own wheels, {ELSE}"
        )
    abi = int(torch.compiled_with_cxx11_abi())
    return [
        f"-D_GLIBCXX_USE_CXX11_ABI={abi}", f"-I{home / 'include'}", f"-L{home / 'lib'}",
        "-ltorch_cpu", "-lc10",
    ]  # fmt: skip


def _digest(data: bytes) -> bytes:
    return xxhash.xxh3_128_digest(data)


def _is_whole(data: bytes) -> bool:
    return len(data) > 16 and data[-16:] == _digest(data[:-16])


def _is_ours(path: Path) -> bool:
    """Code from there is run: nobody else may have written it."""
    found = path.stat()
    return found.st_uid == os.getuid() and not found.st_mode & 0o022


def _text(output: object) -> str:
    return output.decode(errors="replace") if isinstance(output, bytes) else str(output or "")
