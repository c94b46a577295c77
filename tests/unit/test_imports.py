"""The layers of the package: a folder imports only from the layers below its own, and no import closes a circle."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "extracter"
# From the bottom to the top; "" are the modules directly in extracter/. Folders of one layer do not import each other.
LAYERS = [
    {""},
    {"search", "photos"},
    {"models", "data"},
    {"training", "evaluation", "reporting", "download"},
    {"inference", "studies"},
    {"benchmarks", "app"},
    {"commands"},
    {"cli"},
]
LEVELS = {folder: level for level, folders in enumerate(LAYERS) for folder in folders}


def name_of(path: Path) -> str:
    """Dotted name of a module."""
    parts = ["extracter", *path.relative_to(PACKAGE).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def folder_of(module: str) -> str:
    """The folder of a module directly below extracter/; cli.py, which imports all commands, is a layer of its own.

    So is __main__.py, with it.
    """
    parts = module.split(".")[1:]
    if parts in (["cli"], ["__main__"]):
        return "cli"
    return parts[0] if parts and (PACKAGE / parts[0]).is_dir() else ""


def imports_of(module: str, *, at_once: bool) -> set[str]:
    """Modules of the package that `module` imports; `at_once` leaves out imports inside functions."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    inner = {id(n) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef | ast.Lambda) for n in ast.walk(f)}
    found = set()
    for node in ast.walk(tree):
        if at_once and id(node) in inner:
            continue
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.ImportFrom):
            raise AssertionError(f"{module}: a relative import; name the module from `extracter` on")
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & set(MODULES) - {"extracter", module}


def test_each_folder_has_a_layer():
    assert {folder_of(module) for module in MODULES} == set(LEVELS)


@pytest.mark.parametrize("folder", sorted(LEVELS))
def test_imports_go_down(folder):
    """Imports inside functions count, too."""
    up = [
        f"{module} imports {imported}"
        for module in MODULES
        if folder_of(module) == folder
        for imported in imports_of(module, at_once=False)
        if folder_of(imported) != folder and LEVELS[folder_of(imported)] >= LEVELS[folder]
    ]
    assert not up


def test_no_circle():
    graph = {module: imports_of(module, at_once=True) for module in MODULES}
    tuple(TopologicalSorter(graph).static_order())  # raises CycleError
