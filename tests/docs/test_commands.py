"""Every command that the documentation shows is one that works."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from tests.docs.markdown import ROOT, Page

from remora.cli.app import app
from remora.core.errors import UnknownName
from remora.core.units import parse_fraction, parse_seconds
from remora.experiments import registry as experiments
from remora.lab.design import Request
from remora.lab.executors import EXECUTORS
from remora.lab.schedule import labels
from remora.systems import registry as systems
from remora.workloads import registry as workloads

PLUGIN = {"perceptron-train", "slow-loris"}
"""Of the worked example, which is not installed here."""
_SHELL = ("sh", "console", "")
_NAMES = "run|serve|fleet|learn|check|invariants|bench|report|compare|doctor|list|checkpoint|share"
_COMMAND = re.compile(rf"(?:^|\s)remora ((?:{_NAMES})\b.*)")
_INLINE = re.compile(rf"`(remora (?:{_NAMES})[^`]*)`")


def commands(page: Page) -> Iterator[str]:
    """``remora …`` in shell blocks (without prompts and comments) and between backticks."""
    for block in page.blocks:
        if block.language in _SHELL:
            for line in block.text.replace("\\\n", " ").splitlines():
                if "remora " in line:
                    yield from _after_remora(line.removeprefix("$ "))
    for found in _INLINE.findall(page.prose):
        yield from _after_remora(found)


def _after_remora(line: str) -> Iterator[str]:
    if match := _COMMAND.search(line.split("#")[0]):
        yield match[1].split("||")[0].split(" < ")[0].strip()


def all_commands(pages: list[Page]) -> list[tuple[Page, str]]:
    return [(page, command) for page in pages for command in commands(page)]


def parse(command: str) -> dict[str, object]:
    """The parameters of ``command``, as the command line itself takes them; none of it is run."""
    name, *arguments = shlex.split(command)
    subcommand: Any = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    while hasattr(subcommand, "commands"):
        name, *arguments = arguments
        subcommand = subcommand.commands[name]
    parameters: dict[str, object] = subcommand.make_context(name, arguments).params
    return parameters


def is_mention(command: str) -> bool:
    """``remora bench``, ``remora checkpoint verify``: a command by its name alone."""
    return (
        re.fullmatch(
            r"run|serve|learn|check|bench|report|compare|"
            r"(checkpoint|invariants|fleet|share)( [a-z]+( --[a-z]+)?)?",
            command,
        )
        is not None
    )


def test_every_command_shown_parses(pages: list[Page]) -> None:
    shown = all_commands(pages)
    assert {command.split()[0] for _, command in shown} == {
        "run", "learn", "check", "invariants", "serve", "fleet", "bench", "report", "compare",
        "doctor", "list", "checkpoint", "share",
    }  # fmt: skip
    refused = []
    for page, command in shown:
        if is_mention(command):
            continue
        try:
            parse(command.replace("[OPTIONS]", ""))
        except Exception as error:
            refused.append(f"{page.path.relative_to(ROOT)}: remora {command}: {error}")
    assert refused == []


def test_every_bench_shown_names_what_there_is(pages: list[Page]) -> None:
    shown = [command for _, command in all_commands(pages) if command.startswith("bench ")]
    real = [parse(c) for c in shown if "EXPERIMENT" not in c and c != "bench quik"]
    assert len(real) > 15
    for given in real:
        check_values(given)


def check_values(given: dict[str, object]) -> None:
    """The names and quantities of a bench: right in kind, not only in spelling."""
    design = experiments.get(str(given["experiment"]))
    for name in _listed(given["workload"]):
        assert name in PLUGIN or workloads.get(name)
    rows = {row.name for each in design.systems.values() for row in each}
    for name in _listed(given["system"]):
        assert name in PLUGIN or name in rows or systems.find(name)
    for share in (*_listed(given["inject"]), *_given(given, "mde", "margin")):
        parse_fraction(share)
    for duration in _given(given, "budget", "timeout"):
        parse_seconds(duration)
    assert given["executor"] in (None, *EXECUTORS)
    assert given["scale"] in (None, *design.efforts)
    assert not given["only"] or given["resume"]
    arms = {f"{w}/{s}" for w in design.workloads["quick"] for s in labels(design.systems["quick"])}
    assert set(_listed(given["only"])) <= arms | {"WORKLOAD/SYSTEM"}


def _listed(value: object) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list | tuple) else []


def _given(parameters: dict[str, object], *names: str) -> list[str]:
    return [str(parameters[name]) for name in names if parameters[name] is not None]


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("bench quick --colour blue", Exception),
        ("bench quick --system torchsave", UnknownName),
        ("bench quik", UnknownName),
    ],
)
def test_a_command_that_is_wrong_is_found(command: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        check_values(parse(command))


def test_every_option_of_bench_is_documented(pages: list[Page]) -> None:
    text = next(page.text for page in pages if page.path.name == "measuring.md")
    group = typer.main.get_command(app)
    options = {option for p in group.commands["bench"].params for option in p.opts}  # type: ignore[attr-defined]
    missing = {o for o in options if o.startswith("--") and o not in text}
    assert missing - {"--help"} == set()
    assert Request.__dataclass_fields__.keys() <= {o[2:] for o in options} | _RENAMED


_RENAMED = {"workloads", "systems", "options", "budget_s", "timeout_s"}


def test_every_make_target_shown_is_there(pages: list[Page]) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shown = {
        name for page in pages for name in re.findall(r"(?:^|`)make ([a-z-]+)", page.text, re.M)
    }
    assert {"demo", "test", "docs"} <= shown <= targets
