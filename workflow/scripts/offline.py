"""Let DVC's page of plots open without a network: `make plots`.

The page loads the scripts that draw it from a server. Snakemake's package brings the same scripts for its reports; they
are written into the page.
"""

import re
import sys
from pathlib import Path

from snakemake import assets

SCRIPT = re.compile(r'<script src="https://[^"]*/npm/(vega[a-z-]*)@[^"]*"></script>')


def embed(page: Path) -> None:
    """Replace the scripts that a page loads by the scripts themselves."""

    def read(found: re.Match) -> str:
        script = Path(assets.__file__).parent / "data" / found[1] / f"{found[1]}.js"
        text = script.read_text(encoding="utf-8").replace("</script", r"<\/script")
        return f"<script>{text}</script>"

    page.write_text(SCRIPT.sub(read, page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    embed(Path(sys.argv[1]))
