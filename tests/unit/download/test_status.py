"""`extracter data status` and `extracter data verify` as a user sees them."""

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from extracter import cli, params
from extracter.data.prepare import prepare_test
from extracter.download.download import download
from extracter.errors import UserError

PARAMS = Path(__file__).parents[3] / "params.yaml"
SETS = ("set14", "urban100")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Two stand-in sets, downloaded and prepared."""
    root = tmp_path_factory.mktemp("data")
    preset = params.read(PARAMS).presets["demo"]
    for name in SETS:
        raw, prepared = root / "raw/demo" / name, root / "prepared/demo" / name
        download(name, preset.data.tests[name], raw, mirror=None, local=None, every=1)
        prepare_test(name, preset.data.tests[name], raw, prepared, seed=1)
    return root


@pytest.fixture
def root(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "data"))


def run(command: str, root: Path, preset: str = "demo") -> tuple[str, UserError | None]:
    arguments = ["data", command, "--params", str(PARAMS), "--preset", preset, "--data", str(root)]
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exception is None or isinstance(result.exception, UserError), result.exception
    return result.output, result.exception


def row(output: str, name: str) -> str:
    return next(line for line in output.splitlines() if line.startswith(f"│ {name} "))


def test_what_is_there_and_what_is_missing(root):
    for command in ("status", "verify"):
        output, error = run(command, root)
        assert (error is None) == (command == "status"), "a set that is missing cannot be verified"
        assert row(output, "set14").count("there") == 2
        assert "there (4 files)" in row(output, "set14")
        assert row(output, "train").count("missing") == 2
        assert "scikit-image" in row(output, "sun80")
    assert f"{root / 'raw/demo/train'}: missing; " in str(error)
    assert "snakemake --cores all" in str(error)


def test_altered_bytes_of_the_same_size_are_found_by_verify_alone(root):
    path = root / "prepared/demo/urban100/lr/coins.png"
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(bytes(data))
    output, error = run("status", root)
    assert error is None
    assert row(output, "urban100").count("there") == 2
    output, error = run("verify", root)
    assert "corrupt (9 of 10 files)" in row(output, "urban100")
    assert str(error).startswith(f"{path}: corrupt\ndelete manifest.json in the folder of each of these sets")


def test_truncated_missing_and_half_downloaded(root):
    path = root / "raw/demo/set14/moon.png"
    path.write_bytes(path.read_bytes()[:-1])
    (root / "raw/demo/urban100/manifest.json").unlink()
    (root / "prepared/demo/urban100/hr/brick.png").unlink()
    output, error = run("status", root)
    assert error is None
    assert "corrupt (3 of 4 files)" in row(output, "set14")
    assert row(output, "urban100").count("partial") == 2
    assert "partial (3 images)" in row(output, "urban100")
    assert "brick.png: missing\n" in output
    assert "moon.png: corrupt\n" in output
    (root / "raw/demo/set14/manifest.json").write_text("{")
    assert "corrupt" in row(run("status", root)[0], "set14")


def test_sizes_and_sources_are_named_before_anything_is_fetched(tmp_path):
    output, error = run("status", tmp_path, "open")
    assert error is None
    assert "about 134 MB" in row(output, "urban100")
    assert "jbhuang0604/SelfExSR@8f6dd8c" in row(output, "urban100")
    assert row(output, "cufed5").count("not available") == 2
    assert "Google Drive" in row(run("status", tmp_path, "paper")[0], "train")


def test_data_of_another_source_is_told_apart(root):
    (root / "raw/open").mkdir()
    shutil.copytree(root / "raw/demo/set14", root / "raw/open/set14")
    assert "partial (from demo, not published)" in row(run("status", root, "open")[0], "set14")
