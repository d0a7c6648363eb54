"""Lines of TrainCheck's files, told briefly."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

UNCONDITIONAL: dict[str, Any] = {
    "inverted": False,
    "preconditions": [{"clauses": "Unconditional"}],
}


def api(name: str, **arguments: Any) -> dict[str, Any]:
    """A function, with the arguments ``name={type: value}`` that are asked of it."""
    given = {"arguments": {"args": arguments, "func_name": name}} if arguments else {}
    return {"param_type": "APIParam", "api_full_name": name, **given}


def when(*clauses: Mapping[str, Any], inverted: bool = False) -> dict[str, Any]:
    return {"inverted": inverted, "preconditions": [{"clauses": list(clauses)}]}


def clause(
    kind: str, name: str, values: Sequence[Any] | None = None, **more: Any
) -> dict[str, Any]:
    told = {} if values is None else {"values": values, "prop_dtype": type(values[0]).__name__}
    return {"type": kind, "prop_name": name, "additional_path": "None", **told, **more}


def line(
    relation: str,
    *params: Mapping[str, Any],
    condition: Mapping[str, Any] | None = UNCONDITIONAL,
    group: str = "parent_func_call_pre",
    **more: Any,
) -> dict[str, Any]:
    """An invariant."""
    return {
        "text_description": f"{relation} told",
        "relation": relation,
        "params": list(params),
        "precondition": None if condition is None else {group: condition},
        "num_positive_examples": 7,
        "num_negative_examples": None,
        **more,
    }


def file_of(path: Path, *lines: Mapping[str, Any] | str) -> Path:
    """A file of JSON lines; a string is written as it is."""
    told = (one if isinstance(one, str) else json.dumps(one) for one in lines)
    path.write_text("".join(f"{one}\n" for one in told))
    return path
