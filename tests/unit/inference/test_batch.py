"""`extracter upscale` on folders of everything that folders hold."""

import os
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import evaluation_setup
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from extracter.cli import app
from extracter.photos.read import read_photo


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return evaluation_setup.write_checkpoint(tmp_path_factory.mktemp("model"))


def run(*arguments):
    return CliRunner().invoke(app, ["upscale", *map(str, arguments)], catch_exceptions=True)


def noise(number: int, channels: int = 3) -> np.ndarray:
    shape = (4 + number % 5, 3 + number % 7, channels)
    return np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)


def png(width: int, height: int) -> bytes:
    """A PNG file whose header promises a size and whose data does not keep it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(100))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def fill(folder: Path) -> list[str]:
    """Ninety images that are well and ten that are not; the names of the ten."""
    folder.mkdir()
    kinds = [
        (".png", lambda n: Image.fromarray(noise(n))),
        (".jpg", lambda n: Image.fromarray(noise(n))),
        (".webp", lambda n: Image.fromarray(noise(n))),
        (".tif", lambda n: Image.fromarray(noise(n))),
        (".png", lambda n: Image.fromarray(noise(n, 4))),
        (".png", lambda n: Image.fromarray(noise(n)).convert("L")),
        (".png", lambda n: Image.fromarray(noise(n)).quantize(5)),
        (".tif", lambda n: Image.fromarray(noise(n, 4), "CMYK")),
        (".png", lambda n: Image.fromarray(noise(n, 1)[..., 0].astype(np.uint16) * 257)),
    ]
    for number in range(90):
        suffix, make = kinds[number % len(kinds)]
        make(number).save(folder / f"photo {number:02}{suffix}")
    whole = (folder / "photo 01.jpg").read_bytes()
    broken = {
        "a truncated.jpg": whole[: len(whole) // 2],
        "b empty.png": b"",
        "c text.png": b"This is not a picture.\n",
        "d nothing.png": png(0, 0),
        "e bomb.png": png(50_000, 50_000),
        "f name\nwith \N{GRINNING FACE}.png": b"\x89PNG\r\n\x1a\n broken",
        "g half a header.tif": b"II*\x00\x08\x00",
        "h short.png": png(40, 40),
    }
    for name, content in broken.items():
        (folder / name).write_bytes(content)
    (folder / "i loop.png").symlink_to("i loop.png")
    # A file that nobody may read; root may read any, for whom a folder of that name stands in.
    if os.geteuid():
        Image.fromarray(noise(1)).save(folder / "j unreadable.png")
        (folder / "j unreadable.png").chmod(0)
    else:
        (folder / "j unreadable.png").mkdir()
    (folder / "notes.txt").write_text("left alone")
    (folder / ".hidden.png").write_text("left alone")
    return [*broken, "i loop.png", "j unreadable.png"]


def test_a_folder_of_a_hundred_files_ten_of_them_broken(tmp_path, checkpoint):
    bad = fill(tmp_path / "in")
    result = run(tmp_path / "in", "-o", tmp_path / "out", "--model", checkpoint, "--memory", "1GiB")
    assert result.exit_code == 1, result.output
    lines = result.stderr.splitlines()
    assert lines[-1].startswith("extracter: 90 made, 0 already there (--overwrite makes them again), 10 failed")
    assert len(lines) == 11
    for line, name in zip(lines, sorted(bad), strict=False):
        assert line.startswith("extracter: ")
        assert name.replace("\n", "\\n") in line
        assert any(
            word in line for word in ("truncated or damaged", "not an image", "empty", "cannot be read", "pixels")
        )
    assert result.stdout == ""
    made = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert len(made) == 90
    for name in made:
        source = next((tmp_path / "in").glob(f"{Path(name).stem}.*"))
        small, large = read_photo(source), read_photo(tmp_path / "out" / name)
        assert large.rgb.shape[:2] == tuple(4 * side for side in small.rgb.shape[:2])
        assert large.rgb.dtype == small.rgb.dtype
        assert large.grey == small.grey
        assert (large.alpha is None) == (small.alpha is None)

    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    result = run(tmp_path / "in", "-o", tmp_path / "out", "--model", checkpoint, "--memory", "1GiB")
    assert result.exit_code == 1
    assert "0 made, 90 already there" in result.stderr
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before

    one = tmp_path / "in" / "photo 00.png"
    arguments = (one, tmp_path / "in" / "photo 04.png", "-o", tmp_path / "out", "--model", checkpoint, "--overwrite")
    result = run(*arguments)
    assert result.exit_code == 0
    changed = {path.name for path, time in before.items() if path.stat().st_mtime_ns != time}
    assert changed == {"photo 00.png", "photo 04.png"}


def test_references_by_name_for_all_and_missing(tmp_path, checkpoint):
    for folder in ("in", "refs"):
        (tmp_path / folder).mkdir()
    for number, name in enumerate(("a", "b", "c")):
        Image.fromarray(noise(number)).save(tmp_path / "in" / f"{name}.png")
    for name in ("a.jpg", "b.png", "b.webp"):
        Image.fromarray(noise(9)).save(tmp_path / "refs" / name)
    result = run(tmp_path / "in", "--ref", tmp_path / "refs", "-o", tmp_path / "out", "--model", checkpoint)
    assert result.exit_code == 1
    assert "b.png: 2 references of this name" in result.stderr
    assert "c.png: no reference of this name" in result.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png"]
    shared = tmp_path / "refs" / "a.jpg"
    result = run(tmp_path / "in" / "a.png", "--ref", shared, "-o", tmp_path / "one.tif", "--model", checkpoint)
    assert result.exit_code == 0, result.output
    first, second = read_photo(tmp_path / "out" / "a.png"), read_photo(tmp_path / "one.tif")
    np.testing.assert_array_equal(first.rgb, second.rgb)
    result = run(tmp_path / "in", "--ref", tmp_path / "none.jpg", "-o", tmp_path / "out", "--model", checkpoint)
    assert "none.jpg: cannot be read" in str(result.exception)


def test_names(tmp_path, checkpoint):
    for name in ("a.png", "a.jpg", "b.png"):
        Image.fromarray(noise(3)).save(tmp_path / name)
    out = tmp_path / "out"
    result = run(tmp_path, "-o", out, "--model", checkpoint, "--format", "webp", "--compare")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in out.iterdir()) == [
        "a.jpg.compare.png", "a.jpg.webp", "a.png.compare.png", "a.png.webp", "b.compare.png", "b.webp",
    ]  # fmt: skip
    assert Image.open(out / "b.compare.png").size[0] > 1000
    for arguments, message in [
        ((tmp_path / "b.png", "-o", tmp_path / "b.png", "--overwrite"), "would replace the image itself"),
        ((tmp_path / "b.png", "-o", tmp_path / "b.gif"), "results are written as .png, .jpg"),
        ((tmp_path, "-o", tmp_path / "c.png"), "names one file and there are 9 images"),
        ((out.parent / "empty",), "cannot be read"),
    ]:
        result = run(*arguments, *(() if "--model" in arguments else ("--model", checkpoint)))
        if message:
            assert message in str(result.exception) + result.stderr
            assert result.exit_code == 1
    (tmp_path / "empty").mkdir()
    assert "no images" in str(run(tmp_path / "empty").exception)


def test_interrupted_it_leaves_no_part_of_a_file(tmp_path, checkpoint):
    (tmp_path / "in").mkdir()
    for number in range(300):
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(
            tmp_path / "in" / f"{number:03}.png"
        )
    command = [sys.executable, "-m", "extracter.cli", "upscale", tmp_path / "in", "-o", tmp_path / "out"]
    process = subprocess.Popen([*command, "--model", checkpoint], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while (
        len(list((tmp_path / "out").glob("[0-9]*.png"))) < 3 and process.poll() is None and time.monotonic() < deadline
    ):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error.strip() == "extracter: interrupted; run the same command again to resume"
    made = list((tmp_path / "out").iterdir())
    assert 3 <= len(made) < 300
    for path in made:
        assert not path.name.startswith(".")
        assert read_photo(path).rgb.shape == (160, 160, 3)
