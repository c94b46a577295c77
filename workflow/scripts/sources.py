"""Which source files of the package each subcommand of `extracter` runs, for the rules and for DVC's stages.

They are found by following imports from the subcommand in `extracter/commands`, so that the lists cannot go stale. As a
program this writes them into dvc.yaml, where they have to stand as text, and the sets of params.yaml with them:
`make stages`.
"""

import ast
import hashlib
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = "extracter/download/checksums"
COMMANDS = [
    "download",
    "prepare",
    "train-rec",
    "train-full",
    "evaluate",
    "kernel-sweep",
    "collect-metrics",
    "collect-plots",
    "table-metrics",
    "table-parameters",
    "table-kernels",
    "figure-comparison",
    "figure-training",
    "figure-kernels",
]


def find_sources(command: str) -> list[str]:
    """Files that `extracter COMMAND` runs, relative to the project's folder, sorted.

    The command's own module is among them, but what that module's other commands import is not; nor is cli.py, which
    only passes on to it.
    """
    name = command.replace("-", "_")
    home, body = next((path, body) for path, body in _commands() if name in _functions(body))
    functions, reached, calls = _functions(body), set(), {name}
    while calls:
        reached |= calls
        used = {item.id for called in calls for item in ast.walk(functions[called]) if isinstance(item, ast.Name)}
        calls = used & functions.keys() - reached
    others = [functions[other] for other in functions.keys() - reached]
    found = {home}
    waiting = _uses(home, [node for node in body if node not in others])
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting |= _module_uses(path)
    return sorted(found | _module_files(home.removesuffix(".py").split("/")))


def digest(paths: Iterable[str | Path]) -> str:
    """One short digest of the contents of several files."""
    content = hashlib.sha256()
    for path in paths:
        content.update(Path(ROOT, path).read_bytes())
    return content.hexdigest()[:16]


@cache
def _commands() -> list[tuple[str, list[ast.stmt]]]:
    """The modules of commands, parsed."""
    paths = sorted(str(path.relative_to(ROOT)) for path in Path(ROOT, "extracter/commands").glob("*.py"))
    return [(path, _parse(path)) for path in paths]


def _functions(body: list[ast.stmt]) -> dict[str, ast.FunctionDef]:
    return {node.name: node for node in body if isinstance(node, ast.FunctionDef)}


@cache
def _parse(path: str) -> list[ast.stmt]:
    return ast.parse(Path(ROOT, path).read_text(encoding="utf-8"), path).body


@cache
def _module_uses(path: str) -> frozenset[str]:
    return frozenset(_uses(path, _parse(path))) if path.endswith(".py") else frozenset()


def _uses(path: str, nodes: Iterable[ast.AST]) -> set[str]:
    """Files of the package that syntax nodes of the module at `path` use.

    They are what the nodes import, a module named in a text (to be run with `python -m`), and data beside the module
    whose name stands in a text.
    """
    data, modules, files = _data(Path(path).parent), set(), set()
    for item in (item for node in nodes for item in ast.walk(node)):
        if isinstance(item, ast.Import):
            modules.update(alias.name for alias in item.names)
        elif isinstance(item, ast.ImportFrom):
            modules.update([f"{item.module}", *(f"{item.module}.{alias.name}" for alias in item.names)])
        elif isinstance(item, ast.Constant) and isinstance(item.value, str):
            files.update(data.get(item.value, ()))
            if item.value.startswith("extracter.") and item.value.replace(".", "").isidentifier():
                modules.add(item.value)
    for parts in (module.split(".") for module in modules if module.split(".")[0] == "extracter"):
        files |= _module_files(parts)
    return files


def _module_files(parts: list[str]) -> set[str]:
    """The file of a module, given as the parts of its dotted name, and those of the packages it lies in."""
    packages = ["/".join(parts[:length]) for length in range(1, len(parts) + 1)]
    files = {*(f"{package}/__init__.py" for package in packages), f"{packages[-1]}.py"}
    return {file for file in files if Path(ROOT, file).exists()}


@cache
def _data(folder: Path) -> dict[str, list[str]]:
    """What is not Python beside the modules of a folder, by name: a file, or all the files of a folder."""
    found = {}
    for entry in Path(ROOT, folder).iterdir():
        inside = [] if (entry / "__init__.py").exists() else [entry] if entry.is_file() else sorted(entry.rglob("*"))
        files = [file for file in inside if file.is_file() and file.suffix not in (".py", ".pyc")]
        found[entry.name] = [str(file.relative_to(ROOT)) for file in files]
    return found


def list_sets(params: dict) -> dict[str, dict[str, dict[str, str]]]:
    """What `foreach` of the stages `download` and `prepare` holds for the sets of the selected preset.

    Args:
        params: what params.yaml holds.

    Returns:
        By stage and set: the parameters that describe the set, and for `download` from where it comes: a path of the
        user, or the checksums of the published files.
    """
    data = params["presets"][params["preset"]]["data"]
    paths = {"train": "data.train", **{name: f"data.tests.{name}" for name in data["tests"]}}
    folders = {name: block["folder"] for name, block in [("train", data["train"]), *data["tests"].items()]}
    return {
        "download": {
            name: {"block": path, "from": data["local"].get(name) or folders[name] or PUBLISHED}
            for name, path in paths.items()
        },
        "prepare": {name: {"block": path} for name, path in paths.items()},
    }


def is_current(stages: str, params: dict) -> bool:
    """Whether dvc.yaml, given as text, has a stage for each set of params.yaml and no others."""
    written = yaml.safe_load(stages)["stages"]
    return all(written[stage]["foreach"] == sets for stage, sets in list_sets(params).items())


def write_stages(text: str, params: dict) -> str:
    """The text of dvc.yaml brought up to date: its sets, and the sources of each stage by the rules that it allows."""
    sets = list_sets(params)
    for stage, items in sets.items():
        flow = {"default_flow_style": True, "sort_keys": False, "width": float("inf")}
        lines = "".join(f"      {name}: {yaml.safe_dump(item, **flow)}" for name, item in items.items())
        text = re.sub(rf"(  {stage}:\n    foreach:\n)(?:      .*\n)+", lambda old, lines=lines: old[1] + lines, text)
    lines = "".join(f"      - data/prepared/${{preset}}/{name}\n" for name in sets["prepare"] if name != "train")
    text = re.sub(r"(?m)(?:^      - data/prepared/\$\{preset\}/\w+\n)+", lambda _: lines, text)
    stages = re.split(r"(?m)^(?=  [a-z_]+:$)", text)
    for number, stage in enumerate(stages):
        rules = re.search(r"--allowed-rules\s([a-z_\s]+)\s--", stage)
        # A rule has the name of its command. The last stage, `record`, depends on all of them.
        commands = set(COMMANDS) & {rule.replace("_", "-") for rule in rules[1].split()} if rules else COMMANDS
        if number:
            files = sorted(set().union(*map(find_sources, commands)))
            indent = re.search(r"(?m)^( *)- extracter/", stage)
            lines = "".join(f"{indent[1]}- {file}\n" for file in files)
            stages[number] = re.sub(r"(?:^ *- extracter/.*\n)+", lambda _, lines=lines: lines, stage, flags=re.M)
    return "".join(stages)


def main() -> None:
    """Bring dvc.yaml up to date."""
    path = ROOT / "dvc.yaml"
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    path.write_text(write_stages(path.read_text(encoding="utf-8"), params), encoding="utf-8")


if __name__ == "__main__":
    main()
