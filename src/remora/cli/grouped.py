"""A command whose many options are listed by what they are for."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from typer.core import TyperCommand


class Grouped(TyperCommand):
    """Lists options by their ``rich_help_panel``; those without one come first."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        panels: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for param in self.get_params(ctx):
            if (record := param.get_help_record(ctx)) is not None:
                panel = getattr(param, "rich_help_panel", None)
                panels[panel or _general(param)].append(record)
        for name in sorted(panels, key=_first.__contains__, reverse=True):
            with formatter.section(name):
                formatter.write_dl(panels[name])


_first = ("Arguments", "Options")


def _general(param: Any) -> str:
    return "Arguments" if param.param_type_name == "argument" else "Options"
