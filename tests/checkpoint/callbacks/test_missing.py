"""Where a framework is not installed, its callback says what brings it."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

PROGRAM = textwrap.dedent("""
    import importlib, sys
    from remora.core.errors import Unavailable
    for name in ("transformers", "lightning", "accelerate"):
        sys.modules[name] = None
        try:
            importlib.import_module(f"remora.checkpoint.callbacks.{name}")
        except Unavailable as error:
            print(str(error).rpartition("; ")[2])
""")


@pytest.mark.slow
def test_it_names_the_command() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.stdout.splitlines() == [
        "run: pip install 'remora[trainer]'",
        "run: pip install 'remora[lightning]'",
        "run: pip install 'remora[accelerate]'",
    ], done.stderr
