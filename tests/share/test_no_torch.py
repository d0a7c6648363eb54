"""Deciding who runs next needs no torch: a gate in front of a job is not to bring it along.

Cutting operators into pieces does: ``remora.share.slicing`` is imported by nobody else here but the
hook in Python, which is a mode of torch's.
"""

from __future__ import annotations

import subprocess
import sys

CODE = """
import importlib, pkgutil, sys
import remora.share
BRING_TORCH = ("remora.share.slicing", "remora.share.interception.dispatched")
for module in pkgutil.walk_packages(remora.share.__path__, "remora.share."):
    if not module.name.startswith(BRING_TORCH):
        importlib.import_module(module.name)
print(sorted({"torch", "scipy", "remora.share.policies.registry"} & set(sys.modules)))
"""


def test_the_share_service_imports_no_torch() -> None:
    shown = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert shown.stdout == "['remora.share.policies.registry']\n"
