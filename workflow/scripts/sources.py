"""Which source files of the package each subcommand of `extracter` runs, for the rules and for DVC's stages.

They are found by following imports from the subcommand in `extracter/commands`, so that the lists cannot go stale. As a
program this writes them into dvc.yaml, where they have to stand as text: `python workflow/scripts/sources.py`.
"""

import ast
import hashlib
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
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
    folder, modules, files = Path(path).parent, set(), set()
    for item in (item for node in nodes for item in ast.walk(node)):
        if isinstance(item, ast.Import):
            modules.update(alias.name for alias in item.names)
        elif isinstance(item, ast.ImportFrom):
            modules.update([f"{item.module}", *(f"{item.module}.{alias.name}" for alias in item.names)])
        elif isinstance(item, ast.Constant) and re.fullmatch(r"extracter(\.\w+)+", str(item.value)):
            modules.add(item.value)
        elif isinstance(item, ast.Constant) and re.fullmatch(r"\w[\w.-]*", str(item.value)):
            files.update(_data(folder / str(item.value)))
    for parts in (module.split(".") for module in modules if module.split(".")[0] == "extracter"):
        files |= _module_files(parts)
    return files


def _module_files(parts: list[str]) -> set[str]:
    """The file of a module, given as the parts of its dotted name, and those of the packages it lies in."""
    packages = ["/".join(parts[:length]) for length in range(1, len(parts) + 1)]
    files = {*(f"{package}/__init__.py" for package in packages), f"{packages[-1]}.py"}
    return {file for file in files if Path(ROOT, file).exists()}


def _data(path: Path) -> list[str]:
    """The files of a folder or the file at `path`, relative to the project; none where it is of Python or not there."""
    found = Path(ROOT, path)
    files = [found] if found.is_file() else [] if (found / "__init__.py").exists() else sorted(found.rglob("*"))
    return [str(file.relative_to(ROOT)) for file in files if file.is_file() and file.suffix not in (".py", ".pyc")]


def write_stages(text: str) -> str:
    """The text of dvc.yaml with each stage's sources brought up to date, by the rules that its command allows."""
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
    path.write_text(write_stages(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
