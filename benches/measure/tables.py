"""Raw rows, medians, Markdown, and a chart."""

import statistics
from html import escape

COLOURS = {
    "forebay": "#1f77b4", "nginx": "#2ca02c", "nginx-lua": "#98df8a", "haproxy": "#9467bd", "varnish": "#ff7f0e",
}


class Rows:
    """One row per round: what was measured of whom, written as it comes so that nothing is lost."""

    def __init__(self, path, columns):
        self.columns = columns
        self.rows = []
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = path.open("w")
        self.file.write("\t".join(columns) + "\n")

    def add(self, **row):
        self.rows.append(row)
        self.file.write("\t".join(shown(row.get(column)) for column in self.columns) + "\n")
        self.file.flush()

    def median(self, value, **where):
        """The median of a column over the rows that match; None without any."""
        found = [
            row[value] for row in self.rows
            if row.get(value) is not None and all(row.get(name) == wanted for name, wanted in where.items())
        ]
        return statistics.median(found) if found else None

    def spread(self, value, **where):
        """The smallest and the largest."""
        found = [
            row[value] for row in self.rows
            if row.get(value) is not None and all(row.get(name) == wanted for name, wanted in where.items())
        ]
        return (min(found), max(found)) if found else (None, None)


def shown(value):
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"
    return str(value)


def markdown(head, rows):
    """A table; everything but the first column to the right."""
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    lines += ["| " + " | ".join(cell if isinstance(cell, str) else shown(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def bars(title, groups, note):
    """A bar chart: groups of (name, [(series, value)]), each group to its own scale."""
    left, width, bar, gap = 190, 430, 17, 14
    top = 64
    height = top + sum(len(values) * bar + gap for _, values in groups) + 26
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 90}" height="{height}" '
        f'viewBox="0 0 {left + width + 90} {height}" font-family="sans-serif" font-size="12" role="img" '
        f'aria-label="{escape(title, quote=True)}">',
        f'<rect width="{left + width + 90}" height="{height}" fill="#ffffff"/>',
        f'<text x="12" y="24" font-size="15" font-weight="bold" fill="#222">{escape(title)}</text>',
        f'<text x="12" y="43" fill="#555">{escape(note)}</text>',
    ]
    y = top
    for name, values in groups:
        most = max(value for _, value in values)
        middle = y + len(values) * bar / 2 + 4
        out.append(f'<text x="12" y="{middle:.0f}" fill="#222">{escape(name)}</text>')
        for series, value in values:
            length = max(1.0, width * value / most * 0.82)
            colour = COLOURS.get(series, "#7f7f7f")
            out.append(f'<rect x="{left}" y="{y + 1}" width="{length:.1f}" height="{bar - 3}" fill="{colour}"/>')
            out.append(
                f'<text x="{left + length + 5:.1f}" y="{y + bar - 5}" font-size="11" fill="#222">'
                f"{escape(series)} {shown(round(value, 1))}</text>"
            )
            y += bar
        y += gap
    out.append("</svg>\n")
    return "\n".join(out)
