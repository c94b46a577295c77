"""`extracter upscale` as people use it: trees, results beside originals, names, records, full disks, signals."""

import io
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
import unicodedata
import zlib
from pathlib import Path

import evaluation_setup
import numpy as np
import pytest
import tifffile
from PIL import Image
from typer.testing import CliRunner

from extracter.cli import app
from extracter.errors import UserError
from extracter.inference import plan as planning
from extracter.photos.read import read_photo


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return evaluation_setup.write_checkpoint(tmp_path_factory.mktemp("model"))


@pytest.fixture
def run(checkpoint):
    """The command with a tiny model; gives exit code and lines of stderr."""

    def upscale(*arguments):
        found = CliRunner().invoke(app, ["upscale", *map(str, arguments), "--model", str(checkpoint)])
        error = found.exception if isinstance(found.exception, UserError) else None
        assert found.exception is None or isinstance(found.exception, (UserError, SystemExit)), found.exception
        return (1 if error else found.exit_code), [*found.stderr.splitlines(), *([str(error)] if error else [])]

    return upscale


def noise(number: int, channels: int = 3) -> np.ndarray:
    shape = (3 + number % 5, 3 + number % 4, channels)
    return np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)


def save(path: Path, number: int = 0, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(number)).save(path, **options)
    return path


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# A tree of 200 files, 40 of them bad


def encoded(kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.kron(noise(3), np.ones((6, 6, 1), np.uint8))).save(buffer, kind, **options)
    return buffer.getvalue()


def tiff(samples: np.ndarray, **options) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, samples, metadata=None, **options)
    return buffer.getvalue()


def png(width: int, height: int, depth: int = 8, colour: int = 2) -> bytes:
    """A file whose header promises what its data does not keep."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def bad_files() -> dict[str, bytes]:
    """Forty files of forty kinds that are no photographs."""
    kinds = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "tif": "TIFF", "bmp": "BMP", "gif": "GIF", "jp2": "JPEG2000"}
    whole = {suffix: encoded(kind) for suffix, kind in kinds.items()} | {"avif": encoded("AVIF")}
    floats = noise(1).astype(np.float32)
    bad = {f"half.{suffix}": data[: len(data) // 2] for suffix, data in whole.items()}
    bad |= {f"start.{suffix}": data[:9] for suffix, data in whole.items()}
    bad |= {
        f"holes.{suffix}": data[:30] + bytes(len(data) - 30)
        for suffix, data in whole.items()
        if suffix not in ("bmp", "webp")
    }
    bad |= {
        "empty.png": b"",
        "text.png": b"This is no picture.\n",
        "page.jpg": b"<!DOCTYPE html><html><body>404</body></html>",
        "script.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
        "archive.jpg": b"PK\x03\x04" + bytes(60),
        "riff.webp": b"RIFF\x40\0\0\0WEBPVP8 \x30\0\0\0" + bytes(range(60)),
        "nothing.png": png(0, 0),
        "bomb.png": png(50_000, 50_000),
        "short.png": png(40, 40),
        "depth.png": png(4, 4, 3),
        "colour.png": png(4, 4, 8, 5),
        "integers.tif": tiff(noise(1).astype(np.int32), photometric="rgb"),
        "words.tif": tiff(noise(1).astype(np.uint32), photometric="rgb"),
        "signed.tif": tiff(noise(1).astype(np.int16), photometric="rgb"),
        "light.tif": tiff(floats, photometric="rgb"),
        "nan.tif": tiff(floats * np.nan, photometric="rgb"),
        "complex.tif": tiff(floats[..., 0].astype(np.complex64)),
        "f name\nwith \N{GRINNING FACE}.png": b"\x89PNG\r\n\x1a\n broken",
    }
    assert len(bad) == 40
    return bad


def test_a_tree_of_two_hundred_files_forty_of_them_bad(tmp_path, run):
    source, out = tmp_path / "in", tmp_path / "out"
    suffixes = [".png", ".jpg", ".webp", ".tif", ".gif", ".bmp", ".jfif", ".jpe", ".jp2", ".avif"]
    for number in range(160):
        suffix = suffixes[number % 10]
        options = {"format": "JPEG"} if suffix in (".jfif", ".jpe") else {}
        save(
            source / ["", "a", "a/b", "c d/\N{GREEK SMALL LETTER ALPHA}"][number % 4] / f"p{number:03}{suffix}",
            **options,
        )
    for number, (name, data) in enumerate(bad_files().items()):
        path = source / ["", "a", "a/b", "bad"][number % 4] / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    code, lines = run(source, "-o", out, "--memory", "1GiB")
    assert code == 1
    assert lines[-1].startswith("extracter: 160 made, 0 already there (--overwrite makes them again), 40 failed, in ")
    assert len(lines) == 41, "\n".join(lines)
    named = "\n".join(lines[:-1])
    assert all(name.replace("\n", "\\n") in named for name in bad_files())
    first = tree(out)
    wanted = {path.relative_to(source).with_suffix(".png") for path in source.rglob("p[0-9]*") if path.is_file()}
    assert set(first) == {str(path) for path in wanted}
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    code, lines = run(source, "-o", out, "--memory", "1GiB")
    assert (code, len(lines)) == (1, 41)
    assert lines[-1].startswith("extracter: 0 made, 160 already there")
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == times
    code, lines = run(source, "-o", out, "--memory", "1GiB", "--overwrite")
    assert lines[-1].startswith("extracter: 160 made, 0 already there")
    assert tree(out) == first


def test_whatever_is_left_out_is_counted_and_named(tmp_path, run):
    save(tmp_path / "in" / "a.png")
    for name in ("notes.txt", "film.mov", "raw.cr2", ".hidden.png", ".folder/b.png"):
        path = tmp_path / "in" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    code, lines = run(tmp_path / "in", "-o", tmp_path / "out")
    assert code == 0
    assert lines[-1].endswith("(3 files left out: film.mov, notes.txt, raw.cr2)")
    (tmp_path / "in" / "a.png").unlink()
    code, lines = run(tmp_path / "in", "-o", tmp_path / "out")
    assert code == 1
    assert "no images (3 files left out: film.mov, notes.txt, raw.cr2); their names end in .png, .jpg" in lines[-1]


def test_linked_folders_are_followed_and_loops_end(tmp_path, run):
    save(tmp_path / "elsewhere" / "b.png")
    save(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    code, _ = run(tmp_path / "in", "-o", tmp_path / "out")
    assert code == 0
    assert sorted(tree(tmp_path / "out")) == ["a.png", "link/b.png"]


def test_pipes_and_devices_are_named_and_not_waited_for(tmp_path, run):
    folder = tmp_path / "in"
    image = save(folder / "a.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "device.png").symlink_to("/dev/zero")
    (folder / "self.png").symlink_to("self.png")
    code, lines = run(folder, "-o", tmp_path / "out")
    assert code == 1
    for name in ("pipe.png", "device.png"):
        assert (
            f"extracter: {folder / name}: cannot be read (not a regular file); replace the file or leave it out"
            in lines
        )
    assert "self.png: cannot be read (Too many levels of symbolic links)" in "".join(lines)
    assert lines[-1].startswith("extracter: 1 made, 0 already there (--overwrite makes them again), 3 failed")
    code, lines = run(image, "--ref", folder / "pipe.png", "-o", tmp_path / "other")
    assert (code, len(lines)) == (1, 1)
    assert "pipe.png: cannot be read (not a regular file)" in lines[0]


# Results beside originals


@pytest.mark.parametrize("kind", ["png", "jpg", "webp"])
def test_results_beside_originals_never_replace_nor_feed_on_them(tmp_path, run, kind):
    folder = tmp_path / "p"
    for name in ("a.png", "b.jpg", "sub/a.png", "sub/c.png"):
        save(folder / name)
    before = tree(folder)
    code, lines = run(folder, "-o", folder, "--format", kind, "--compare")
    assert (code, lines[-1].split(",")[0]) == (0, "extracter: 4 made")
    results = [f"a_x4.{kind}", f"b_x4.{kind}", f"sub/a_x4.{kind}", f"sub/c_x4.{kind}"]
    first = tree(folder)
    comparisons = [f"{name.rsplit('.', 1)[0]}.compare.png" for name in results]
    assert set(first) == {*before, *results, *comparisons}
    assert {name: first[name] for name in before} == before
    code, lines = run(folder, "-o", folder, "--format", kind, "--compare")
    assert code == 0
    assert "0 made, 4 already there" in lines[-1]
    assert "8 left out as results of an earlier run" in lines[-1]
    assert tree(folder) == first
    # Another format and another scale do not take results for images either.
    code, _ = run(folder, "-o", folder, "--format", "tif", "--scale", "2")
    assert code == 0
    assert set(tree(folder)) - set(first) == {"a_x2.tif", "b_x2.tif", "sub/a_x2.tif", "sub/c_x2.tif"}


def test_a_shell_pattern_takes_no_results_either(tmp_path, run):
    save(tmp_path / "a.png")
    for _ in range(2):
        code, _ = run(*sorted(tmp_path.glob("*.png")), "-o", tmp_path)
        assert code == 0
        assert sorted(tree(tmp_path)) == ["a.png", "a_x4.png"]


def test_an_output_folder_inside_the_input_folder(tmp_path, run):
    save(tmp_path / "a.png")
    for _ in range(2):
        code, _ = run(tmp_path, "-o", tmp_path / "upscaled")
        assert code == 0
        assert sorted(tree(tmp_path)) == ["a.png", "upscaled/a.png"]


def test_suffix(tmp_path, run):
    image = save(tmp_path / "in" / "a.png")
    assert run(image, "-o", tmp_path / "out", "--suffix", "-large")[0] == 0
    assert list(tree(tmp_path / "out")) == ["a-large.png"]
    for suffix, message in (("", "results would come among the images"), ("a/b", "part of a file's name")):
        code, lines = run(tmp_path / "in", "-o", tmp_path / "in", "--suffix", suffix)
        assert code == 1
        assert message in lines[-1]


def test_the_image_itself_is_never_replaced(tmp_path, run):
    image = save(tmp_path / "a.png")
    before = image.read_bytes()
    (tmp_path / "link.png").symlink_to(image)
    for out in (image, tmp_path / "link.png"):
        code, lines = run(image, "-o", out, "--overwrite")
        assert code == 1
        assert "the result would replace the image itself" in lines[-1]
    assert image.read_bytes() == before


# Whose result is there


def test_another_image_of_the_same_name_is_told_apart(tmp_path, run):
    first, second = save(tmp_path / "a" / "IMG_1.jpg", 1), save(tmp_path / "b" / "IMG_1.jpg", 2)
    out = tmp_path / "out"
    assert run(first, "-o", out)[0] == 0
    made = tree(out)
    code, lines = run(second, "-o", out)
    assert code == 1
    assert "was made from another image, IMG_1.jpg; choose another --out or --suffix" in lines[0]
    assert tree(out) == made
    assert run(first, "-o", out) == (
        0,
        [f"extracter: 0 made, 1 already there (--overwrite makes them again), 0 failed, in {out}"],
    )
    assert run(second, "-o", out, "--overwrite")[0] == 0
    assert tree(out) != made


@pytest.mark.parametrize("kind", ["png", "jpg", "tif", "webp", "avif"])
def test_another_reference_scale_or_kernel_is_told_apart(tmp_path, run, kind):
    image, reference = save(tmp_path / "a.png", 1), save(tmp_path / "b.png", 2)
    out = tmp_path / f"out.{kind}"
    assert run(image, "-o", out)[0] == 0
    assert "1 already there" in run(image, "-o", out)[1][-1]
    for option in (("--ref", reference), ("--scale", 2), ("--kernel", 12)):
        code, lines = run(image, "-o", out, *option)
        assert code == 1
        assert "was made with another model, reference or option" in lines[0]


def test_a_file_that_is_no_result_is_told_apart(tmp_path, run):
    image, other = save(tmp_path / "a.png", 1), save(tmp_path / "b.jpg", 2)
    before = other.read_bytes()
    code, lines = run(image, "-o", other)
    assert code == 1
    assert "exists and does not say what it was made from; choose another --out" in lines[0]
    assert other.read_bytes() == before


def test_the_record_is_no_path_and_strip_leaves_it_out(tmp_path, run):
    image = save(tmp_path / "a & <b>.png", 1)
    for out in ("one.png", "two.jpg"):
        assert run(image, "-o", tmp_path / out)[0] == 0
        data = (tmp_path / out).read_bytes()
        assert b'extracter:source="a &amp; &lt;b&gt;.png"' in data
        assert str(tmp_path).encode() not in data
        assert run(image, "-o", tmp_path / f"bare {out}", "--strip")[0] == 0
        assert b"extracter" not in (tmp_path / f"bare {out}").read_bytes()
        assert "1 already there" in run(image, "-o", tmp_path / f"bare {out}", "--strip")[1][-1]


def test_a_picture_that_is_missing_is_made(tmp_path, run):
    image = save(tmp_path / "a.png", 1)
    out = tmp_path / "out"
    assert run(image, "-o", out)[0] == 0
    made = tree(out)["a.png"]
    assert run(image, "-o", out, "--compare")[0] == 0
    assert list(tree(out)) == ["a.compare.png", "a.png"]
    assert tree(out)["a.png"] == made
    assert "1 already there" in run(image, "-o", out, "--compare")[1][-1]


# References by name


def test_references_match_up_to_case_and_normalisation(tmp_path, run):
    name = "Caf\N{LATIN SMALL LETTER E WITH ACUTE}"
    save(tmp_path / "in" / "sub" / f"{unicodedata.normalize('NFC', name)}.png", 1)
    save(tmp_path / "refs" / f"{unicodedata.normalize('NFD', name).upper()}.JPG", 2)
    save(tmp_path / "in" / "b.png", 3)
    save(tmp_path / "refs" / "B.JPEG", 4)
    code, lines = run(tmp_path / "in", "--ref", tmp_path / "refs", "-o", tmp_path / "out")
    assert (code, lines[-1].split(",")[0]) == (0, "extracter: 2 made")


def test_a_reference_of_the_same_subfolder_goes_first(tmp_path, run):
    for folder in ("a", "b"):
        save(tmp_path / "in" / folder / "x.png", 1)
        save(tmp_path / "refs" / folder / "x.png", ord(folder))
    assert run(tmp_path / "in", "--ref", tmp_path / "refs", "-o", tmp_path / "out")[0] == 0
    made = tree(tmp_path / "out")
    assert made["a/x.png"] != made["b/x.png"]


def test_a_bad_reference_for_all_ends_the_run_before_the_first_image(tmp_path, run):
    save(tmp_path / "in" / "a.png")
    (tmp_path / "ref.tif").write_bytes(bad_files()["half.tif"])
    code, lines = run(tmp_path / "in", "--ref", tmp_path / "ref.tif", "-o", tmp_path / "out")
    assert code == 1
    assert len(lines) == 1
    assert "ref.tif: truncated or damaged image" in lines[0]
    assert not (tmp_path / "out").exists()


# What cannot be written


@pytest.fixture
def no_model(monkeypatch):
    """Whatever loads a model fails."""
    monkeypatch.setattr("extracter.inference.batch.Upscaler", None)


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize(("size", "kind", "message"), [
    ((16_400, 4), "jpg", ".jpg holds at most 65,500 pixels a side and the result has 65,600; choose .png or .tif"),
    ((4_100, 2), "webp", ".webp holds at most 16,383 pixels a side and the result has 16,400; choose .png or .jpg or"),
    ((2, 16_400), "avif", ".avif holds at most"),
])  # fmt: skip
def test_formats_that_cannot_hold_the_result(tmp_path, run, size, kind, message):
    Image.new("RGB", size).save(tmp_path / "a.png")
    code, lines = run(tmp_path / "a.png", "-o", tmp_path / "out", "--format", kind)
    assert code == 1
    assert message in lines[0]
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize("name", ["x.bmp", "x.gif", "x.heic", "x.psd", "x.jxl", "x.pgn"])
def test_suffixes_that_are_not_written(tmp_path, run, name):
    code, lines = run(save(tmp_path / "a.png"), "-o", tmp_path / name)
    assert code == 1
    assert "results are written as .png, .jpg, .jpeg, .tif, .tiff, .webp, .avif" in lines[0]
    assert not (tmp_path / name).exists()


@pytest.mark.usefixtures("no_model")
def test_folders_that_cannot_be_written_to(tmp_path, run, monkeypatch):
    image = save(tmp_path / "a.png")
    (tmp_path / "file").write_text("no folder")
    code, lines = run(image, "-o", tmp_path / "file" / "out")
    assert code == 1
    assert "cannot be written (Not a directory)" in lines[0]

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(planning.tempfile, "NamedTemporaryFile", full)
    code, lines = run(image, "-o", tmp_path / "out")
    assert code == 1
    assert "cannot be written (No space left on device); free some space" in lines[0]


def test_a_disk_too_small_for_the_result(tmp_path, run, monkeypatch):
    monkeypatch.setattr(planning.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 90, 10))
    code, lines = run(save(tmp_path / "a.png"), "-o", tmp_path / "out")
    assert code == 1
    assert "10 bytes are free in" in lines[0]


@pytest.mark.parametrize("length", [200, 241, 255])
def test_long_names(tmp_path, run, length):
    name = f"{'n' * (length - 4)}.png"
    code, _ = run(save(tmp_path / "in" / name), "-o", tmp_path / "out")
    assert code == 0
    assert list(tree(tmp_path / "out")) == [name]
    code, lines = run(tmp_path / "in", "-o", tmp_path / "out", "--format", "webp", "--suffix", "y" * 55)
    assert code == 1
    assert "name would have" in lines[0]


def test_names_that_several_images_share(tmp_path, run):
    for name in ("a.png", "a.jpg", "A.webp", "b.png"):
        save(tmp_path / "in" / name)
    assert run(tmp_path / "in", "-o", tmp_path / "out")[0] == 0
    assert sorted(tree(tmp_path / "out")) == ["A.webp.png", "a.jpg.png", "a.png.png", "b.png"]
    for name in ("x/a.png", "x/b.png", "y/a.png"):
        save(tmp_path / name)
    code, lines = run(tmp_path / "x", tmp_path / "y", "-o", tmp_path / "two")
    assert (code, list(tree(tmp_path / "two"))) == (1, ["b.png"])
    for name, line in zip(("x", "y"), lines, strict=False):
        reason = f"another image would have the same result, {tmp_path / 'two' / 'a.png.png'}"
        assert line == f"extracter: {tmp_path / name / 'a.png'}: {reason}; enlarge them into different folders"
    assert lines[2].startswith("extracter: 1 made, 0 already there (--overwrite makes them again), 2 failed")


def test_a_comparison_that_would_be_another_result(tmp_path, run):
    for name in ("a.png", "a.compare.png", "b.png"):
        save(tmp_path / "in" / name)
    code, lines = run(tmp_path / "in", "-o", tmp_path / "out", "--compare")
    assert (code, list(tree(tmp_path / "out"))) == (1, ["b.compare.png", "b.png"])
    reason = f"a comparison and another image's result would both be {tmp_path / 'out' / 'a.compare.png'}; leave out"
    for name, line in zip(("a.compare", "a"), lines, strict=False):
        assert line.startswith(f"extracter: {tmp_path / 'in' / name}.png: {reason} --compare, or enlarge them into")
    assert run(tmp_path / "in", "-o", tmp_path / "out")[0] == 0
    # The result of an earlier run is no comparison, and stays.
    (tmp_path / "out/a.png").unlink()
    before = (tmp_path / "out/a.compare.png").read_bytes()
    code, lines = run(tmp_path / "in/a.png", "-o", tmp_path / "out", "--compare")
    assert code == 1
    assert f"{tmp_path / 'out' / 'a.compare.png'} exists and is no comparison; choose another --out" in lines[0]
    assert (tmp_path / "out/a.compare.png").read_bytes() == before
    assert run(tmp_path / "in/a.png", "-o", tmp_path / "out", "--compare", "--overwrite")[0] == 0
    (tmp_path / "out/a.png").unlink()  # as if interrupted: a comparison is made again
    assert run(tmp_path / "in/a.png", "-o", tmp_path / "out", "--compare")[0] == 0


# Options


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_scales(tmp_path, run, scale):
    pixels = np.kron(noise(7, 4), np.ones((5, 5, 1), np.uint8))
    image = Image.fromarray(pixels)
    image.save(tmp_path / "a.png", dpi=(300, 300))
    assert run(tmp_path / "a.png", "-o", tmp_path / "b.png", "--scale", scale)[0] == 0
    photo = read_photo(tmp_path / "b.png")
    assert photo.rgb.shape[:2] == photo.alpha.shape == tuple(scale * side for side in pixels.shape[:2])
    assert photo.metadata.dpi == pytest.approx((300, 300), abs=0.1)
    if scale == 1:
        np.testing.assert_array_equal(photo.alpha, pixels[..., 3])


def test_quality(tmp_path, run):
    image = evaluation_setup.photograph(0, 32, 32)
    image.save(tmp_path / "a.png")
    for kind in ("jpg", "webp", "avif"):
        sizes = []
        for quality in (10, 90):
            assert run(tmp_path / "a.png", "-o", tmp_path / f"{quality}.{kind}", "--quality", quality)[0] == 0
            sizes.append((tmp_path / f"{quality}.{kind}").stat().st_size)
        assert sizes[0] < 0.7 * sizes[1]
    # Another quality is another result; PNG has none.
    assert run(tmp_path / "a.png", "-o", tmp_path / "90.jpg", "--quality", 50)[0] == 1
    for quality in (10, 90):
        assert run(tmp_path / "a.png", "-o", tmp_path / "b.png", "--quality", quality)[0] == 0


def test_no_control_codes_in_a_log(tmp_path, checkpoint):
    save(tmp_path / "a.png")
    command = [sys.executable, "-m", "extracter", "upscale", tmp_path / "a.png", "-o", tmp_path / "b.png"]
    found = subprocess.run(
        [*command, "--model", checkpoint], capture_output=True, text=True, env=os.environ | {"FORCE_COLOR": "1"}
    )
    assert found.returncode == 0
    assert found.stderr == f"extracter: {tmp_path / 'b.png'}, exact search of 6x6 patches\n"
    # Without any stderr the result is made all the same.
    closed = ["sh", "-c", '"$@" >&- 2>&-', "sh", *map(str, command[:-1]), str(tmp_path / "c.png")]
    subprocess.run([*closed, "--model", checkpoint], check=True)
    assert (tmp_path / "c.png").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_leave_nothing_half_written(tmp_path, checkpoint, number):
    for index in range(60):
        pixels = np.random.default_rng(index).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{index:03}.png")
    out = tmp_path / "out"
    command = [sys.executable, "-m", "extracter", "upscale", tmp_path, "-o", out, "--format", "tif"]
    process = subprocess.Popen([*command, "--model", checkpoint], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while len(list(out.glob("[0-9]*"))) < 3 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "run the same command again to resume" in error
    assert "Traceback" not in error
    made = list(out.iterdir())
    assert 3 <= len(made) < 60
    for path in made:
        assert not path.name.startswith(".")
        assert read_photo(path).rgb.shape == (160, 160, 3)


def test_names_that_no_file_can_have(tmp_path, run):
    for arguments in (("n" * 300,), (save(tmp_path / "a.png"), "--ref", "n" * 300)):
        code, lines = run(*arguments, "-o", tmp_path / "out")
        assert code == 1
        assert "cannot be read (File name too long)" in "".join(lines) or "name would have 304 bytes" in lines[0]
