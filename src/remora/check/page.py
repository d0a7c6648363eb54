"""A check's report as one HTML page: what does not hold first, then every invariant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from remora.check.invariants import counted
from remora.check.report import CheckReport, Violation
from remora.core.colours import DARK, LIGHT, css_variables
from remora.core.files import write_atomically

Words = Mapping[str, tuple[str, str]]
"""By an invariant's name, its relation and what it says."""

_STYLE = """
:root { color-scheme: light; %(light)s }
@media (prefers-color-scheme: dark) { @media not print { :root { color-scheme: dark; %(dark)s } } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); overflow-wrap: anywhere;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  font-variant-numeric: tabular-nums; }
header, main { max-width: 66rem; margin-inline: auto; padding: 0 1.5rem; }
header { padding-block: 3rem 1rem; }
main { padding-bottom: 3rem; }
h1, h2 { font-family: "Iowan Old Style", Palatino, Charter, Georgia, "DejaVu Serif", serif; }
h1 { font-size: clamp(1.75rem, 1.3rem + 2vw, 2.5rem); line-height: 1.15; margin: 0 0 1rem;
  text-wrap: balance; }
h2 { font-size: 1.5rem; margin: 2.5rem 0 .75rem; }
.eyebrow { margin: 0 0 .5rem; color: var(--accent); font-weight: 600; font-size: .875rem; }
.facts { list-style: none; display: flex; flex-wrap: wrap; gap: .3rem 1.6rem; margin: 0; padding: 0;
  color: var(--muted); font-size: .9375rem; }
.facts b { color: var(--ink); font-weight: 600; }
article { background: var(--wash); border-radius: 10px; padding: 1rem 1.25rem; margin: 0 0 1rem;
  border-inline-start: 4px solid var(--worse); }
article details { margin-top: .75rem; }
article details h3 { margin-top: 1rem; }
summary { cursor: pointer; color: var(--muted); }
article h3 { margin: 0 0 .5rem; font-size: 1rem; display: flex; flex-wrap: wrap; gap: .5rem 1rem; }
dl { display: grid; grid-template-columns: 6rem 1fr; gap: .25rem 1rem; margin: 0; }
dt { color: var(--muted); }
dd { margin: 0; }
code { font: .875em/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
.chip { border-radius: 99px; padding: .05rem .6rem; font-size: .8125rem; font-weight: 600;
  white-space: nowrap; }
.worse { color: var(--worse); background: var(--worse-wash); }
.same { color: var(--same); background: var(--same-wash); }
.unsure { color: var(--unsure); background: var(--unsure-wash); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%%; font-size: .875rem; line-height: 1.4; }
th, td { padding: .45rem .6rem; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); }
th { color: var(--muted); font-weight: 600; }
th, td { overflow-wrap: normal; }
td:nth-child(1), td:nth-child(2) { white-space: nowrap; }
td:nth-child(3) { min-width: 18rem; overflow-wrap: break-word; }
p.none { color: var(--muted); }
@media (max-width: 34rem) { dl { grid-template-columns: 1fr; } dd { margin-bottom: .4rem; } }
"""


def write_page(path: Path, report: CheckReport, words: Words) -> None:
    """Write the page in one piece.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, page(report, words).encode())


def page(report: CheckReport, words: Words) -> str:
    """The whole page; nothing in it is loaded from elsewhere."""
    style = _STYLE % {"light": css_variables(LIGHT), "dark": css_variables(DARK)}
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(_headline(report))}</title>\n<style>{style}</style>\n</head>\n<body>\n"
        f"{_masthead(report)}<main>\n{_violations(report)}{_not_checked(report)}"
        f"{_table(report, words)}</main>\n</body>\n</html>\n"
    )


def _headline(report: CheckReport) -> str:
    violated, judged = len(report.violations), len(report.triggered)
    if violated:
        return f"{violated} of {judged} invariants that came up did not hold"
    return f"All {judged} invariants that came up held" if judged else "No invariant came up"


def _masthead(report: CheckReport) -> str:
    facts = [
        ("program", report.program or "–"), ("steps", f"{report.steps:,}"),
        ("invariants", f"{report.invariants:,}"), ("passed", f"{len(report.passed):,}"),
        ("not triggered", f"{len(report.not_triggered):,}"),
    ]  # fmt: skip
    if report.not_checked:
        facts.append(("not checked", f"{len(report.not_checked):,}"))
    if report.every > 1:
        facts.insert(2, ("watched", f"1 step in {report.every:,}"))
    items = "".join(f"<li>{name} <b>{escape(value)}</b></li>" for name, value in facts)
    return (
        f'<header>\n<p class="eyebrow">Remora check</p>\n<h1>{escape(_headline(report))}</h1>\n'
        f'<ul class="facts">{items}</ul>\n</header>\n'
    )


def _violations(report: CheckReport) -> str:
    """By cause, in the order of their first steps: the first of each whole, the others below it."""
    if not report.violations:
        return ""
    causes: dict[str, list[Violation]] = {}
    for one in sorted(report.violations, key=lambda one: one.step):
        causes.setdefault(one.group or one.invariant, []).append(one)
    return "<h2>What did not hold</h2>\n" + "".join(map(_cause, causes.values()))


def _cause(violations: Sequence[Violation]) -> str:
    first, *others = violations
    return f"<article>\n{_violation(first)}{_others(others) if others else ''}</article>\n"


def _others(violations: Sequence[Violation]) -> str:
    number = counted(len(violations), "more invariant")
    each = "".join(map(_violation, violations))
    return f"<details><summary>{number} of the same cause</summary>\n{each}</details>\n"


def _violation(one: Violation) -> str:
    rank = f" on rank {one.rank}" if one.rank else ""
    often = "once" if one.count == 1 else f"{one.count:,} times, last in step {one.last_step:,}"
    rows = [("expected", escape(one.expected)), ("seen", escape(one.seen))]
    if one.where:
        rows.append(("where", f"<code>{escape(one.where)}</code>"))
    rows.append(("how often", often))
    listed = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in rows)
    return (
        f'<h3>Step {one.step:,}{rank} <span class="chip worse">{escape(one.relation)}'
        f"</span> <code>{escape(one.invariant)}</code></h3>\n<dl>{listed}</dl>\n"
    )


def _not_checked(report: CheckReport) -> str:
    """What is judged by nothing, whole or in part, and why."""
    rows = "".join(
        f"<tr><td><code>{escape(one.invariant)}</code></td><td>{escape(one.expected)}</td>"
        f"<td>{escape(one.reason)}</td></tr>\n"
        for one in (*report.not_checked, *report.checked_in_part)
    )
    if not rows:
        return ""
    return (
        '<h2>What could not be checked</h2>\n<div class="scroll"><table>\n<thead><tr>'
        "<th>invariant</th><th>what it says</th><th>why</th></tr></thead>\n"
        f"<tbody>\n{rows}</tbody></table></div>\n"
    )


def _table(report: CheckReport, words: Words) -> str:
    violated = {one.invariant for one in report.violations}
    states = [
        *((name, "violated", "worse") for name in report.triggered if name in violated),
        *((name, "passed", "same") for name in report.passed),
        *((name, "not triggered", "unsure") for name in report.not_triggered),
        *((one.invariant, "not checked", "unsure") for one in report.not_checked),
    ]
    return (
        '<h2>Every invariant</h2>\n<div class="scroll"><table>\n<thead><tr><th>invariant</th>'
        "<th>relation</th><th>what it says</th><th>here</th></tr></thead>\n<tbody>\n"
        f"{_rows(states, words)}</tbody></table></div>\n"
    )


def _rows(states: Iterable[tuple[str, str, str]], words: Words) -> str:
    """One that is none of ours has no words here; what could not be checked tells of it."""
    return "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{escape(words[name][0])}</td>"
        f'<td>{escape(words[name][1])}</td><td><span class="chip {tone}">{state}</span></td></tr>\n'
        for name, state, tone in states
        if name in words
    )
