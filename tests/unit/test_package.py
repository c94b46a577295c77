"""The wheel: what is in it, and that it runs in an empty environment, from a folder that is not the repository."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LARGEST_WHEEL = 6_000_000  # bytes


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """A wheel built from a copy, so that the build leaves nothing in the repository."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "extracter", source / "extracter", ignore=shutil.ignore_patterns("__pycache__"))
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(source / "dist"),
        str(source),
    ]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = (source / "dist").iterdir()
    return wheel


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory) -> Path:
    """A virtual environment with this wheel alone; its dependencies are those of the test's interpreter."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(folder / "bin" / "python")]
    subprocess.run([*pip, "install", "--quiet", "--no-index", "--no-deps", "--no-compile", str(wheel)], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


def test_the_wheel_holds_the_package_and_the_released_model(wheel):
    assert wheel.stat().st_size < LARGEST_WHEEL
    names = zipfile.ZipFile(wheel).namelist()
    assert {"extracter/py.typed", "extracter/__init__.pyi"} <= set(names)
    released = {Path(name).name for name in names if name.startswith("extracter/released/extracter-rec/")}
    assert released >= {"config.json", "model.safetensors", "training.json", "README.md"}
    assert any(name.startswith("extracter/download/checksums/") for name in names)
    assert all(name.startswith(("extracter/", "extracter-")) for name in names)


def test_the_installed_command_and_the_python_interface_work_from_any_folder(environment, tmp_path, photograph):
    def run(*command: str) -> str:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        command = [str(environment / "bin" / command[0]), *command[1:]]
        return subprocess.run(command, cwd=tmp_path, env=clean, check=True, capture_output=True, text=True).stdout

    photograph(0, 24, 16).save(tmp_path / "photo.jpg")
    run("extracter", "upscale", "photo.jpg")
    assert (tmp_path / "upscaled" / "photo.png").is_file()
    code = "import extracter; from extracter import upscale; print(extracter.__file__, upscale('photo.jpg').size)"
    assert run("python", "-c", code).strip() == f"{next(environment.glob('lib/*/*/extracter/__init__.py'))} (96, 64)"
    assert "released/extracter-rec" in run("extracter", "info", "--no-time").replace("\n", "")
