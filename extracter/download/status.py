"""Show which data of a preset is there, and verify that it is what was downloaded and prepared."""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from extracter.data import manifest
from extracter.data.images import is_image
from extracter.data.manifest import Entry
from extracter.data.parallel import ordered_map
from extracter.download import demo, registry
from extracter.errors import UserError
from extracter.files import sha256
from extracter.presets import Data, TestData, TrainData

SHOWN = 10  # number of damaged files that are listed
COLOURS = {"there": "green", "missing": "yellow", "partial": "yellow", "corrupt": "red", "not available": "dim"}


@dataclass(frozen=True)
class State:
    """State of one folder: `word` is a key of COLOURS; `bad` names files that are missing or corrupt."""

    word: str
    detail: str = ""
    size: int = 0
    bad: tuple[str, ...] = ()


def inspect(folder: Path, source: str, *, rehash: bool, label: str) -> State:
    """Compare a raw or prepared set with its manifest.

    Args:
        folder: folder of the set.
        source: `source` of the parameters.
        rehash: compare the SHA-256 of every file, not only sizes.
        label: text before the progress bar.
    """
    if not (folder / manifest.NAME).is_file():
        files = [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
        whole = [path for path in files if is_image(path)]
        size = sum(path.stat().st_size for path in files)
        return State("partial", f"{len(whole):,} images", size) if files else State("missing")
    try:
        content = manifest.read(folder)
    except UserError as error:
        return State("corrupt", bad=(str(error),))
    entries: list[Entry] = content["files"]

    def check(entry: Entry) -> str:
        path = folder / entry["path"]
        if not path.is_file():
            return "missing"
        wrong = path.stat().st_size != entry["size"] or (rehash and sha256(path) != entry["sha256"])
        return "corrupt" if wrong else ""

    found = list(ordered_map(check, entries, label))
    bad = tuple(f"{folder / e['path']}: {what}" for e, what in zip(entries, found, strict=True) if what)
    size = sum(entry["size"] for entry in entries)
    detail = f"{len(entries) - len(bad):,} of {len(entries):,} files"
    if content["source"] != source:
        return State("partial", f"from {content['source']}, not {source}", size, bad)
    if not bad:
        return State("there", f"{len(entries):,} files", size)
    return State("corrupt" if "corrupt" in found else "partial", detail, size, bad)


def _origin(name: str, source: TrainData | TestData, data: Data) -> tuple[str, str]:
    """Where a set comes from and its approximate size, as far as they are known beforehand."""
    if source.source == "none":
        return "-", "-"
    if source.source == "folder":
        return str(source.folder), "-"
    if source.source == "demo":
        return "scikit-image" if name in demo.SETS else "no stand-in", "-"
    registered = registry.get(name, source.source)
    supplied = data.local.get(name)
    mirror = data.mirror if registered.folders or registered.listing else None
    place = supplied or mirror or registered.place
    return place, f"about {registered.megabytes:,} MB"


def report(data: Data, preset: str, root: Path, *, rehash: bool) -> None:
    """Print the table; with `rehash`, read every byte.

    Args:
        data: `data` of the preset.
        preset: name of the preset and of its folders in `root`/raw and `root`/prepared.
        root: folder of the data of all presets.
        rehash: compare SHA-256 with the manifests, not only sizes.

    Raises:
        UserError: with `rehash`, if a file is corrupt or missing, or a whole set is missing.
    """
    table = Table(title=f"data of preset {preset}", title_justify="left")
    for column in ("set", "raw", "size", "prepared", "size", "source"):
        table.add_column(column, justify="right" if column == "size" else "left", overflow="fold")
    bad: list[str] = []
    absent: list[str] = []
    sources: dict[str, TrainData | TestData] = {"train": data.train, **data.tests}
    for name, source in sources.items():
        place, expected = _origin(name, source, data)
        cells = []
        for kind in ("raw", "prepared"):
            state = State("not available")
            if source.source != "none":
                state = inspect(root / kind / preset / name, source.source, rehash=rehash, label=f"{kind} {name}")
            bad += state.bad
            if rehash and state.word in ("missing", "partial") and not state.bad:
                absent.append(f"{root / kind / preset / name}: {state.word}")
            word = f"[{COLOURS[state.word]}]{state.word}[/]" + (f" ({state.detail})" if state.detail else "")
            cells += [word, decimal(state.size) if state.size else (expected if kind == "raw" else "-")]
        table.add_row(name, *cells, place)
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    console.print(table)
    if bad:
        more = [f"and {len(bad) - SHOWN:,} more"] if len(bad) > SHOWN else []
        listed = "\n".join([*bad[:SHOWN], *more])
        sentence = f"{listed}\ndelete {manifest.NAME} in the folder of each of these sets and run the workflow again"
        if rehash:
            raise UserError(sentence)
        print(sentence)
    if absent and rehash:
        raise UserError(f"{'; '.join(absent)}; `snakemake --cores all` makes what is missing")
