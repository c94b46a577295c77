"""Put the rule graph, as Snakemake draws it, into docs/workflow.md: `make graph`."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# `all` and `record` have an edge from every rule; the graph of what the tables need is the one to look at.
DRAW = [sys.executable, "-m", "snakemake", "--quiet", "all", "--rulegraph", "mermaid-js", "--", "tabulated", "drawn"]
BLOCK = re.compile(r"(<!-- rule graph: `make graph` -->\n\n```mermaid\n).*?(```\n)", re.DOTALL)


def draw() -> str:
    """The graph as mermaid, without its colours, lines in a stable order."""
    lines = subprocess.run(DRAW, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    names = dict(match.groups() for line in lines if (match := re.fullmatch(r"\s*(id\d+)\[(\w+)\]", line)))
    edges = [match.groups() for line in lines if (match := re.fullmatch(r"\s*(id\d+) --> (id\d+)", line))]
    arrows = sorted(f"    {names[start]} --> {names[end]}" for start, end in edges)
    return "".join(f"{line}\n" for line in ["flowchart TB", *arrows])


def main() -> None:
    """Rewrite the block of docs/workflow.md."""
    path = ROOT / "docs" / "workflow.md"
    text = path.read_text(encoding="utf-8")
    if not BLOCK.search(text):
        raise SystemExit(f"{path}: has no mermaid block after `<!-- rule graph: ... -->` to draw in; add one")
    path.write_text(BLOCK.sub(lambda match: match[1] + draw() + match[2], text), encoding="utf-8")


if __name__ == "__main__":
    main()
