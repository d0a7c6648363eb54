"""The outcomes as a Markdown table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from remora.experiments.silent_issues.outcome import Outcome

COLUMNS = (
    "issue", "what is wrong", "caught", "at step (fault from)", "by", "published as",
    "the invariant", "learned", "false alarms", "s",
)  # fmt: skip


def table(outcomes: Iterable[Outcome]) -> str:
    rows = [COLUMNS, ("---",) * len(COLUMNS), *(_row(one) for one in outcomes)]
    return "".join(f"| {' | '.join(_plain(cell) for cell in row)} |\n" for row in rows)


def summary(outcomes: Sequence[Outcome]) -> str:
    """One line."""
    caught = [one for one in outcomes if one.caught]
    on_time = sum(one.on_time for one in caught)
    false = sum(len(one.false_alarms) for one in outcomes)
    checked = sum(one.invariants for one in outcomes)
    again = [one for outcome in outcomes for one in outcome.again]
    further = f"; run again otherwise: {sum(again)} of {len(again)} caught" if again else ""
    return (
        f"{len(caught)} of {len(outcomes)} caught, {on_time} in the step of the fault; "
        f"{false} false alarms of {checked:,} invariants{further}"
    )


def _row(one: Outcome) -> tuple[str, ...]:
    verdict = "no verdict: " + one.trouble if one.trouble else "yes" if one.caught else "**missed**"
    step = f"{'–' if one.step is None else one.step} ({one.from_step})"
    return (
        one.issue, one.wrong, verdict, step, one.relation or "–", one.published,
        one.invariant or "–", str(one.invariants), str(len(one.false_alarms)),
        f"{one.seconds:.0f}",
    )  # fmt: skip


def _plain(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")
