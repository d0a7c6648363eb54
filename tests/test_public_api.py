"""The public names: all there, imported when used, torch left alone until it is needed."""

from __future__ import annotations

import subprocess
import sys

import pytest

import remora


@pytest.mark.parametrize("name", remora.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(remora, name) is not None
    assert name in dir(remora)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'swim'"):
        remora.swim  # noqa: B018


def test_riding_along_does_not_import_torch() -> None:
    code = (
        "import sys, remora; remora.Job, remora.Service, remora.run_script, remora.UserError; "
        "print('torch' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "False\n"
