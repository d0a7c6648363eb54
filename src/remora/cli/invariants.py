"""``remora invariants``: look into files of invariants, merge, prune and convert them."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from remora.cli.console import plain_console
from remora.core.errors import BadValue

if TYPE_CHECKING:
    from remora.check.invariants import Invariant, Invariants
    from remora.check.traincheck.reading import Reading

app = typer.Typer(
    help="Look into files of invariants, merge, prune and convert them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

File = Annotated[Path, typer.Argument(metavar="FILE", help="The file of invariants.")]
AnyFile = Annotated[
    Path, typer.Argument(metavar="FILE", help="The file of invariants, ours or TrainCheck's.")
]
Output = Annotated[
    Path, typer.Option("--output", "-o", metavar="FILE", help="The file to write, or replace.")
]


class Format(StrEnum):
    """Whose form a file can be converted to."""

    remora = "remora"
    traincheck = "traincheck"


@app.command("show")
def show(
    file: AnyFile,
    relation: Annotated[
        list[str] | None,
        typer.Option("--relation", metavar="NAME", help="Only of this relation; repeatable."),
    ] = None,
    function: Annotated[
        list[str] | None,
        typer.Option(
            "--function",
            metavar="TEXT",
            help="Only about functions with this in their name; repeatable.",
        ),
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option("--name", metavar="NAME", help="Only the one called so; repeatable."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """Say in words what the invariants are: name, how often each held, and when it applies."""
    from remora.check.invariants import counted
    from remora.check.pruning import select
    from remora.check.traincheck.reading import read_any

    reading = read_any(file)
    invariants = reading.invariants
    chosen = select(
        invariants, names=name or (), relations=relation or (), functions=function or ()
    )
    if as_json:
        print(_json(chosen))
        return
    head = [f"{counted(len(chosen), 'invariant')} of TrainCheck's"] if reading.traincheck else ()
    for line in (*(head or _of_file(invariants)), *_by_relation(chosen), *_of_reading(reading)):
        plain_console().print(line, soft_wrap=True)


@app.command("merge")
def merge(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE FILE...", help="The files to bring together.")
    ],
    output: Output,
) -> None:
    """Keep what no file contradicts: one that could have learned an invariant and did not.

    A file could have learned it if its runs called the function that it judges three times.
    """
    from remora.check.invariants import read_invariants, write_invariants
    from remora.check.merging import merge as merge_files

    named = {str(file): read_invariants(file) for file in files}
    if len(named) < 2:
        raise BadValue("merge takes two files or more; give each once")
    merged = merge_files(named)
    write_invariants(output, merged.kept)
    console = plain_console()
    for one in merged.dropped:
        console.print(one.line(), soft_wrap=True)
    console.print(f"{merged.kept.in_words()} in {output}", soft_wrap=True)


@app.command("prune")
def prune(
    file: File,
    output: Output,
    drop: Annotated[
        list[str] | None,
        typer.Option("--drop", metavar="NAME", help="The one called so; repeatable."),
    ] = None,
    relation: Annotated[
        list[str] | None,
        typer.Option("--relation", metavar="NAME", help="All of this relation; repeatable."),
    ] = None,
    fewest: Annotated[
        int, typer.Option("--fewest", metavar="N", help="All that held less often.")
    ] = 0,
) -> None:
    """Write a file without the invariants that are named, or that one of the options tells."""
    from remora.check.invariants import read_invariants, write_invariants
    from remora.check.pruning import prune as take_out

    if not (drop or relation or fewest):
        raise BadValue("say what to take out: --drop NAME, --relation NAME or --fewest N")
    invariants = read_invariants(file)
    kept = take_out(invariants, names=drop or (), relations=relation or (), fewest=fewest)
    write_invariants(output, kept)
    gone = len(invariants.invariants) - len(kept.invariants)
    plain_console().print(f"took out {gone:,}; {kept.in_words()} in {output}", soft_wrap=True)


@app.command("convert")
def convert(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="A file of ours or of TrainCheck's.")
    ],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write, or replace.")],
    to: Annotated[Format, typer.Option("--to", help="Whose form OUT is to have.")],
) -> None:
    """Read TrainCheck's invariants, or write ours in its form; say what could not be taken over."""
    from remora.check.invariants import write_invariants
    from remora.check.traincheck.reading import read_any
    from remora.check.traincheck.writing import write_traincheck

    reading = read_any(source)
    invariants = reading.invariants
    lines, taken = list(_of_reading(reading)), len(invariants.invariants)
    if to is Format.remora:
        write_invariants(target, invariants)
    else:
        unsaid = write_traincheck(target, invariants.invariants)
        lines += [f"left out [{one.name}] {one.words}: {one.reason}" for one in unsaid]
        taken -= len(unsaid)
    for line in (*lines, f"wrote {taken:,} invariant{'s' * (taken != 1)} to {target}"):
        plain_console().print(line, soft_wrap=True)


def _of_reading(reading: Reading) -> Iterable[str]:
    for said, remarks in (
        ("not taken over", reading.unread),
        ("taken over in part", reading.loosened),
        ("judged on traces only", reading.unmet),
    ):
        for one in remarks:
            yield f"line {one.line} {said}: {one.text}: {one.reason}"


def _of_file(invariants: Invariants) -> Iterable[str]:
    header = invariants.header
    yield invariants.in_words() + (f", torch {header.torch}" if header.torch else "")
    for source in header.sources:
        rank = f", rank {source.rank}" if source.rank else ""
        yield f"learned from {source.program}{rank}, {source.steps:,} steps"
    for held in header.held_out:
        gone = f"{len(held.dropped):,} dropped"
        yield f"checked against {held.program}, {held.steps:,} steps: {gone}"


def _by_relation(chosen: Iterable[Invariant]) -> Iterable[str]:
    def relation(one: Invariant) -> str:
        return one.relation

    for name, group in groupby(sorted(chosen, key=relation), relation):
        members = list(group)
        widest = max(len(f"{one.support:,}") for one in members)
        yield f"\n{name}: {len(members):,}"
        for one in members:
            yield f"  {one.name}  {one.support:>{widest},} ×  {one.words()}"


def _json(chosen: Iterable[Invariant]) -> str:
    import msgspec

    each = [
        {
            "name": one.name,
            "relation": one.relation,
            "words": one.words(),
            "support": one.support,
            "against": one.against,
            "claim": one.claim,
            "when": one.when,
        }
        for one in chosen
    ]
    return msgspec.json.format(msgspec.json.encode(each), indent=1).decode()
