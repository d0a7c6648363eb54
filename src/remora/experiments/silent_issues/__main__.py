"""``python -m remora.experiments.silent_issues [--program NAME] [--json FILE] [--out FOLDER]``."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from remora.core.errors import UserError
from remora.core.files import write_atomically
from remora.experiments.silent_issues.cases import chosen
from remora.experiments.silent_issues.gallery import Gallery
from remora.experiments.silent_issues.outcome import Outcome
from remora.experiments.silent_issues.table import summary, table


def main(arguments: Sequence[str]) -> int:
    """Run the cases and print the table; the exit code."""
    given = _parser().parse_args(arguments)
    try:
        cases = chosen([*given.programs, *given.program])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    folder = given.out or Path(tempfile.mkdtemp(prefix="remora-silent-issues-"))
    outcomes = Gallery(folder, again=given.again).run(cases, _tell)
    found = msgspec.json.format(msgspec.json.encode(outcomes), indent=1) + b"\n"
    for path in filter(None, (folder / "outcomes.json", given.json)):
        write_atomically(path, found)
    print(f"\n{table(outcomes)}\n{summary(outcomes)}\nresults in {folder}")
    return 0


def _tell(one: Outcome) -> None:
    verdict = one.trouble or (f"caught at step {one.step}" if one.caught else "missed")
    print(f"{one.program}: {verdict} ({one.seconds:.0f} s)", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m remora.experiments.silent_issues")
    parser.add_argument("programs", nargs="*", metavar="NAME", help="as --program")
    parser.add_argument(
        "--program", action="append", default=[], metavar="NAME",
        help="run this case, named by its program or issue; repeatable (default: all)",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the outcomes here too")
    parser.add_argument(
        "--again", action="store_true",
        help="check the faulty programs under further seeds and in another size as well",
    )  # fmt: skip
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="for traces, logs and results (default: a new one)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
