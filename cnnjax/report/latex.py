"""report.tex: the tables of a report for a paper, with booktabs' rules."""

from collections.abc import Sequence

from cnnjax.report.tables import Table

_SIGNS = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "−": "$-$", "–": "--", "±": r"$\pm$", "×": r"$\times$", "<": "$<$", ">": "$>$", "·": r"$\cdot$",
}  # fmt: skip


def escaped(text: str) -> str:
    """Text as LaTeX sets it."""
    return "".join(_SIGNS.get(sign, sign) for sign in text)


def tables_tex(tables: Sequence[Table], question: str, command: str) -> str:
    """Every table as a float; needs \\usepackage{booktabs}."""
    head = f"% {_line(question)}\n% {_line(command)}\n% Needs \\usepackage{{booktabs}}.\n"
    return head + "".join(_table(table) for table in tables)


def _table(table: Table) -> str:
    columns = "".join("r" if i in table.numeric else "l" for i in range(len(table.head)))
    rows = "".join(f"{_row(row)}\n" for row in table.rows)
    return (
        f"\n\\begin{{table}}\n\\caption{{{escaped(table.caption)}}}\n"
        f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{_row(table.head)}\n\\midrule\n{rows}"
        "\\bottomrule\n\\end{tabular}\n\\end{table}\n"
    )


def _row(cells: Sequence[str]) -> str:
    return " & ".join(escaped(str(cell)) for cell in cells) + r" \\"


def _line(text: str) -> str:
    """A comment ends with its line."""
    return " ".join(text.split())
