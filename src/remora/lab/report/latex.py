"""LaTeX: two booktabs tables a workload, to be brought into a paper with ``\\input``."""

from __future__ import annotations

import unicodedata

from remora.lab.report.tables import TextTable, arm_rows, by_workload, cost_table, overhead_table
from remora.lab.results import Analysis

_COMMANDS = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "%": r"\%",
    "#": r"\#", "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': "''",
    "\u00a0": "~", "\u202f": r"\,", "\u2212": "$-$", "×": r"$\times$", "±": r"$\pm$",
    "δ": r"$\delta$", "∞": r"$\infty$", "µ": r"$\mu$", "–": "--", "—": "---", "’": "'",
    "…": r"\ldots{}", "≥": r"$\geq$", "≤": r"$\leq$", "\n": " ",
}  # fmt: skip


def escape(text: str) -> str:
    """``text`` as plain LaTeX shows it. What pdfLaTeX cannot set is written as its code point."""
    parts = text.split("--")  # two hyphens would be set as a dash
    return "-{}-".join("".join(_COMMANDS.get(c) or _plain(c) for c in part) for part in parts)


def _plain(character: str) -> str:
    if character.isascii():
        return character if character.isprintable() else " "
    base = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return "".join(_COMMANDS.get(c, c) for c in base) or f"[U+{ord(character):04X}]"


def summary_latex(analysis: Analysis) -> str:
    """All tables. Needs ``\\usepackage{booktabs}`` and nothing else."""
    parts = ["% Written by remora; needs \\usepackage{booktabs}. Bring it in with \\input."]
    groups = by_workload(arm_rows(analysis))
    for index, (name, rows) in enumerate(groups.items(), start=1):
        label = f"{analysis.plan.experiment}-{index}"
        parts.append(table_latex(overhead_table(name, rows, analysis.plan.level), label))
        parts.append(table_latex(cost_table(name, rows), label))
    return "\n".join(parts)


_FITTED = r"  \resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"


def table_latex(table: TextTable, label: str, *, fitted: bool = False) -> str:
    """One floating table; its label is ``tab:<label>-<key>``.

    Args:
        fitted: set smaller where it is wider than the text; needs ``\\usepackage{graphicx}``.
    """
    spec = "".join("r" if column.numeric else "l" for column in table.columns)
    reference = "".join(
        c for c in f"{label}-{table.key}" if c.isascii() and (c.isalnum() or c in "-.")
    )
    lines = [
        r"\begin{table}",
        r"  \centering\small",
        f"  \\caption{{{escape(table.caption)}.}}",
        f"  \\label{{tab:{reference}}}",
        r"  \setlength{\tabcolsep}{3pt}",
        *([_FITTED] if fitted else []),
        f"  \\begin{{tabular}}{{@{{}}{spec}@{{}}}}",
        r"    \toprule",
        *[f"    {' & '.join(line)} \\\\" for line in _header(table)],
        r"    \midrule",
        *[f"    {' & '.join(_cell(cell) for cell in row)} \\\\" for row in table.rows],
        r"    \bottomrule",
        r"  \end{tabular}" + ("}" if fitted else ""),
        r"\end{table}",
        "",
    ]
    return "\n".join(lines)


def _header(table: TextTable) -> list[list[str]]:
    """The titles, and their units on a line below: columns then are as narrow as their numbers."""
    parts = [column.title.partition(", ") for column in table.columns]
    titles = [escape(title) for title, _, _ in parts]
    units = [escape(unit) for _, _, unit in parts]
    return [titles, units] if any(units) else [titles]


def _cell(text: str) -> str:
    """A cell; one that starts with ``[`` is shielded, for ``\\\\ [`` would take it as a length."""
    escaped = escape(text)
    return f"{{}}{escaped}" if escaped.startswith(("[", "*")) else escaped
