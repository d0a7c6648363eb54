"""The packages of the ``lab`` extra, asked for before anything is measured."""

from __future__ import annotations

from importlib.util import find_spec

from remora.core.errors import Unavailable

PACKAGES = ("scipy", "matplotlib", "jinja2")
REMEDY = "pip install 'remora[lab]'"


def require_lab_packages() -> None:
    """Raise :class:`Unavailable` when the lab cannot analyse or report what it would measure."""
    missing = [package for package in PACKAGES if find_spec(package) is None]
    if missing:
        raise Unavailable(f"the lab needs {', '.join(missing)}; install with: {REMEDY}")
