"""What the documentation takes from the code is what the code says now."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from docs import generate
from remora.lab.results import Analysis, EnvironmentPair, Plan, Trial
from remora.systems import registry as systems
from remora.workloads import registry as workloads

PAGES = sorted(generate.generated())


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_generated_parts_are_current(path: Path) -> None:
    current = path.read_bytes() == generate.generated()[path]
    assert current, f"{path.name} is out of date; run: python docs/generate.py"


def test_the_tables_name_every_workload_and_system() -> None:
    pages = {name: (generate.DOCS / name).read_text() for name in ("workloads.md", "systems.md")}
    for name in workloads.names():
        assert f"| `{name}` |" in pages["workloads.md"]
    for name in systems.names():
        assert f"| `{name}` |" in pages["systems.md"]
        assert f"\n## {name}\n" in pages["systems.md"], f"systems.md says nothing about {name}"


# ---------------------------------------------------------------- the schema and real results


@pytest.fixture(scope="module")
def definitions() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(generate.SCHEMA.read_text())["$defs"]
    return found


def agree(value: object, schema: dict[str, Any], definitions: dict[str, Any]) -> None:
    """``value`` has the shape that ``schema`` gives it: keys, types and choices."""
    if "$ref" in schema:
        return agree(value, definitions[schema["$ref"].rsplit("/", 1)[1]], definitions)
    if "anyOf" in schema:
        return _agree_with_any(value, schema["anyOf"], definitions)
    if "enum" in schema:
        assert value in schema["enum"]
        return None
    assert isinstance(value, _TYPES[schema["type"]]), (value, schema)
    if isinstance(value, dict):
        _agree_as_object(value, schema, definitions)
    elif isinstance(value, list):
        for item in value:
            agree(item, schema["items"], definitions)
    return None


_TYPES: dict[str, Any] = {
    "object": dict, "array": list, "string": str, "integer": int, "number": (int, float),
    "boolean": bool, "null": type(None),
}  # fmt: skip


def _agree_as_object(value: dict[str, Any], schema: dict[str, Any], definitions: Any) -> None:
    properties, others = schema.get("properties", {}), schema.get("additionalProperties", True)
    assert set(schema.get("required", ())) <= value.keys()
    for key, item in value.items():
        if key in properties:
            agree(item, properties[key], definitions)
        else:
            assert isinstance(others, dict), f"{key} is not in {schema.get('title')}"
            agree(item, others, definitions)


def _agree_with_any(value: object, choices: list[dict[str, Any]], definitions: Any) -> None:
    refusals = []
    for choice in choices:
        try:
            return agree(value, choice, definitions)
        except (AssertionError, KeyError) as error:
            refusals.append(error)
    raise AssertionError(f"{value!r} is none of {choices}: {refusals}")


def test_a_real_plan_and_trial_have_the_form_described(
    results_folder: Path, definitions: dict[str, Any]
) -> None:
    files: list[tuple[Path, type]] = [
        (results_folder / "plan.json", Plan),
        (results_folder / "environment.json", EnvironmentPair),
        *((path, Trial) for path in results_folder.glob("trials/*.json")),
    ]
    assert len(files) == 2 + 6
    for path, kind in files:
        raw = path.read_bytes()
        msgspec.json.decode(raw, type=kind, strict=True)
        agree(json.loads(raw), definitions[kind.__name__], definitions)


def test_a_real_analysis_has_the_form_described(
    results_folder: Path, definitions: dict[str, Any]
) -> None:
    from remora.lab.analysis import analyse_folder
    from remora.lab.folder import Folder
    from remora.lab.report.rendering import results_json

    raw = results_json(analyse_folder(Folder.open(results_folder))[0])
    msgspec.json.decode(raw, type=Analysis, strict=True)
    agree(json.loads(raw), definitions["Analysis"], definitions)


def test_a_plan_of_another_form_is_told_from_it(
    results_folder: Path, definitions: dict[str, Any]
) -> None:
    plan = json.loads((results_folder / "plan.json").read_bytes())
    for wrong in ({**plan, "colour": "blue"}, {**plan, "blocks": "two"}, {"version": 1}):
        with pytest.raises(AssertionError):
            agree(wrong, definitions["Plan"], definitions)
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(wrong, Plan)
