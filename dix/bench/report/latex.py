"""A table as LaTeX: wide, as the thesis prints it."""

from __future__ import annotations

from collections.abc import Sequence

from dix.bench.report.notes import UNMEASURED, columns_of, decimals, groups, marks, mean_rank, metric_label, notes
from dix.bench.tables.beside import Beside, beside
from dix.bench.tables.samples import Block
from dix.bench.tables.table import Table, TableCell

_LATEX = {
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "†": r"\textdagger{}",
    "‡": r"\textdaggerdbl{}",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "−": "$-$",
    "–": "--",
    "…": r"\ldots{}",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "×": r"$\times$",
    "·": r"$\cdot$",
} | {sign: f"\\{sign}" for sign in "&%$#_{}"}


def latex_escape(text: str) -> str:
    """Text that LaTeX prints as it is, in one line."""
    return "".join(_LATEX.get(letter, letter) for letter in " ".join(text.split()))


def render_latex(table: Table) -> str:
    """The table as the thesis prints it, one float for each data set; needs the packages booktabs and graphicx."""
    head = "% needs \\usepackage{booktabs,graphicx,textcomp}\n"
    floats = [_latex_float(table, blocks) for blocks in groups(table).values()]
    return head + "\n".join(floats + [_latex_beside(table, sheet) for sheet in beside(table)])


def _latex_beside(table: Table, sheet: Beside) -> str:
    """One model's scores with a column for each protocol."""
    model, dataset = table.labels.model(sheet.model), table.labels.dataset(sheet.dataset)
    caption = f"{table.title or 'Results'}: {model} on {dataset}, a column for each protocol."
    body = "\\midrule\n".join(
        _latex_metric(table, metric, sheet) for metric in dict.fromkeys(line.metric for line in sheet.lines)
    )
    columns = ["", "", *map(latex_escape, sheet.protocols)]
    return (
        f"\\begin{{table*}}\n\\centering\n\\caption{{{latex_escape(caption)}}}\n"
        f"\\resizebox{{\\linewidth}}{{!}}{{%\n\\begin{{tabular}}{{ll{'r' * len(sheet.protocols)}}}\n\\toprule\n"
        f"{' & '.join(columns)} \\\\\n\\midrule\n{body}\\bottomrule\n\\end{{tabular}}}}\n\\end{{table*}}\n"
    )


def _latex_metric(table: Table, metric: str, sheet: Beside) -> str:
    """The lines of one metric, which is named on the first."""
    text = ""
    for position, line in enumerate(line for line in sheet.lines if line.metric == metric):
        name = latex_escape(metric_label(table, metric)) if position == 0 else ""
        cells = ["" if cell is None else _latex_value(cell) for cell in line.cells]
        text += f"{' & '.join([name, latex_escape(table.labels.method(line.method)), *cells])} \\\\\n"
    return text


def _latex_float(table: Table, blocks: Sequence[Block]) -> str:
    methods = columns_of(table, blocks)
    columns = ["", "", *(latex_escape(table.labels.method(method)) for method in methods)]
    caption = f"{table.title or 'Results'}: {table.labels.dataset(blocks[0].dataset)}."
    body = "\\midrule\n".join(_latex_block(table, block, methods) for block in blocks)
    below = "\\\\\n".join(latex_escape(note) for note in notes(table, blocks))
    return (
        f"\\begin{{table*}}\n\\centering\n\\caption{{{latex_escape(caption)}}}\n"
        f"\\resizebox{{\\linewidth}}{{!}}{{%\n\\begin{{tabular}}{{ll{'r' * len(methods)}}}\n\\toprule\n"
        f"{' & '.join(columns)} \\\\\n\\midrule\n{body}\\bottomrule\n\\end{{tabular}}}}\n\n"
        f"\\medskip\\raggedright\\footnotesize\n{below}\n\\end{{table*}}\n"
    )


def _latex_block(table: Table, block: Block, methods: Sequence[str]) -> str:
    """The lines of one model, which is named on the first, and its mean ranks."""
    lines = []
    for position, metric in enumerate(table.metrics_of(block)):
        model = latex_escape(table.labels.model(block.model)) if position == 0 else ""
        cells = [_latex_value(table.cell(block, method, metric)) for method in methods]
        lines.append([model, latex_escape(metric_label(table, metric)), *cells])
    lines.append(["", "mean rank", *(latex_escape(mean_rank(table, block, method)) for method in methods)])
    return "".join(f"{' & '.join(line)} \\\\\n" for line in lines)


def _latex_value(cell: TableCell) -> str:
    if cell.status != "measured":
        return latex_escape(UNMEASURED[cell.status])
    text = latex_escape(decimals(cell.value))
    emphasised = f"\\textbf{{{text}}}" if cell.best else f"\\underline{{{text}}}" if cell.second else text
    sign = marks(cell)
    return f"{emphasised}\\textsuperscript{{{latex_escape(sign)}}}" if sign else emphasised
