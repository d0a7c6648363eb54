"""``remora checkpoint``: look into a checkpoint folder, verify it, take things out of it."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from remora.cli import hold
from remora.cli.console import plain_console
from remora.core.errors import BadValue
from remora.core.units import format_bytes

if TYPE_CHECKING:
    from remora.checkpoint.reading import Found

app = typer.Typer(
    help="Look into a checkpoint folder, verify it, take things out of it.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.command("hold")(hold.hold)

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="The checkpoint folder.")]
Place = Annotated[
    str, typer.Argument(metavar="FOLDER", help="The checkpoint folder, or the URL of copies.")
]
Step = Annotated[
    int | None, typer.Option("--step", help="Which checkpoint; the newest if left out.")
]


class Format(StrEnum):
    """What a checkpoint can be exported as."""

    safetensors = "safetensors"
    dcp = "dcp"


@app.command("ls")
def ls(place: Place) -> None:
    """List the checkpoints, newest first."""
    from remora.checkpoint import inventory

    found = inventory.committed(inventory.open_place(place))
    console = plain_console()
    if not found:
        console.print("no checkpoint has been committed here yet")
        return
    table = Table("step", "committed (UTC)", "size", "files", "kept")
    for each in found:
        table.add_row(*_row(each))
    console.print(table)


def _row(found: Found) -> tuple[str, ...]:
    entry = found.entry
    when = datetime.fromtimestamp(entry.time_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S")
    kept = "for good" if found.kind == "archived" else "while new"
    return f"{entry.step:,}", when, format_bytes(entry.nbytes), str(entry.parts), kept


@app.command("verify")
def verify(place: Place, step: Step = None) -> None:
    """Read every byte of every checkpoint, or of one, and check it. Exits 1 if any is damaged."""
    from remora.checkpoint import inventory

    storage = inventory.open_place(place)
    chosen = inventory.committed(storage) if step is None else [inventory.find(storage, step)]
    verdicts = [inventory.verify(storage, found) for found in chosen]
    console = plain_console()
    for each in verdicts:
        size = format_bytes(each.found.entry.nbytes)
        console.print(f"step {each.found.entry.step:,}: {each.damage or f'whole ({size})'}")
    if not verdicts:
        console.print("no checkpoint has been committed here yet")
    if any(each.damage for each in verdicts):
        raise typer.Exit(1)


@app.command("show")
def show(place: Place, step: Step = None) -> None:
    """List the tensors of a checkpoint."""
    from remora.checkpoint import inventory

    storage = inventory.open_place(place)
    found = inventory.find(storage, step)
    table = Table("tensor", "dtype", "shape", "bytes")
    table.columns[3].justify = "right"
    every = inventory.tensors(storage, found)
    for each in every:
        shape = " × ".join(str(size) for size in each.shape) or "scalar"
        table.add_row(each.name, str(each.dtype).removeprefix("torch."), shape, f"{each.nbytes:,}")
    console = plain_console()
    console.print(table)
    total = format_bytes(sum(each.nbytes for each in every))
    console.print(f"step {found.entry.step:,}: {_count(len(every), 'tensor')}, {total}")


@app.command("export")
def export(
    place: Place,
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="The file or folder to write.")],
    step: Step = None,
    form: Annotated[
        Format, typer.Option("--format", help="safetensors: one file; dcp: a folder.")
    ] = Format.safetensors,
) -> None:
    """Write a checkpoint as plain safetensors or for torch.distributed.checkpoint."""
    from remora.checkpoint import inventory
    from remora.checkpoint.formats.dcp import export_dcp
    from remora.checkpoint.formats.safetensors_file import export_safetensors
    from remora.core.errors import CheckpointUnusable

    if target.exists():
        raise CheckpointUnusable(f"{str(target)!r} is there already; choose another name")
    if not target.parent.is_dir():
        raise CheckpointUnusable(f"there is no folder {str(target.parent)!r} to write into")
    storage = inventory.open_place(place)
    found = inventory.find(storage, step)
    state = inventory.load(storage, found)
    try:
        (export_dcp if form is Format.dcp else export_safetensors)(state, target)
    except OSError as error:
        raise CheckpointUnusable(
            f"{str(target)!r} cannot be written: {error.strerror or error}; choose another place"
        ) from error
    plain_console().print(f"wrote step {found.entry.step:,} to {target}")


@app.command("prune")
def prune(
    folder: Folder,
    keep: Annotated[int, typer.Option("--keep", help="How many of the newest stay.")],
) -> None:
    """Give up all but the newest checkpoints, those kept for good included."""
    from remora.checkpoint import inventory

    gone = inventory.prune(inventory.open_folder(folder), keep)
    plain_console().print(_given_up(gone))


@app.command("restore")
def restore(
    folder: Folder,
    step: Annotated[
        int | None, typer.Option("--step", help="The checkpoint to go on from.")
    ] = None,
    source: Annotated[
        str | None,
        typer.Option("--from", metavar="URL", help="Bring that checkpoint's copy from there."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Choose the checkpoint that the next run goes on from: an earlier one, or one's copy.

    Going back to an earlier one gives up all newer ones. With --from, the copy, the newest if no
    step is given, is brought into the folder, which is made if need be; nothing is given up.
    """
    if source is not None:
        _fetch(folder, source, step)
    elif step is not None:
        _roll_back(folder, step, yes)
    else:
        raise BadValue("say which checkpoint: --step N, or --from URL for the newest copy there")


def _fetch(folder: Path, source: str, step: int | None) -> None:
    from remora.checkpoint import inventory
    from remora.checkpoint.storage.local import LocalStorage
    from remora.checkpoint.tiers.fetch import fetch

    copies = inventory.open_copies(source)
    inventory.find(copies, step)
    entry = fetch(copies, LocalStorage(folder), step)
    plain_console().print(
        f"brought step {entry.step:,} into {folder}; the next run goes on from there"
    )


def _roll_back(folder: Path, step: int, yes: bool) -> None:
    from remora.checkpoint import inventory

    storage = inventory.open_folder(folder)
    inventory.find(storage, step)
    if not yes:
        typer.confirm(f"give up every checkpoint newer than step {step}?", abort=True)
    gone = inventory.roll_back(storage, step)
    plain_console().print(f"{_given_up(gone)}; the next run goes on from step {step:,}")


def _given_up(gone: list[Found]) -> str:
    steps = ", ".join(f"{found.entry.step:,}" for found in gone)
    if not gone:
        return "nothing to give up"
    return f"gave up {_count(len(gone), 'checkpoint')}, of step{'s' * (len(gone) > 1)} {steps}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"
