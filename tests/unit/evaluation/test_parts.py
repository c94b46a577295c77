"""A set evaluated in parts gives the bytes of the whole."""

import shutil

import pytest
from evaluation_setup import preset, write_checkpoint, write_test_set

from extracter.errors import UserError
from extracter.evaluation.evaluate import evaluate
from extracter.evaluation.parts import COLUMNS, merge, parse_part, summarise
from extracter.files import read_json, write_csv, write_json

SIZES = ((64, 48), (52, 72), (48, 48), (40, 64), (48, 56))


def run(images, checkpoint, folder, part="1-of-1", variant="extracter-rec"):
    parameters = preset()
    written = (folder / "images.csv", folder / "summary.json", folder / "sr")
    settings = {"model": parameters.model, "search": parameters.search, "timings": folder / "timings.csv"}
    evaluate(variant, images, checkpoint, *written, **settings, part=part, device="cpu")
    return folder


# Of seven parts of five images, two are empty.
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_parts_come_to_the_bytes_of_the_whole(tmp_path, count):
    images, checkpoint = write_test_set(tmp_path / "set", sizes=SIZES), write_checkpoint(tmp_path / "weights")
    whole = run(images, checkpoint, tmp_path / "whole")
    names = [f"{number}-of-{count}" for number in range(1, count + 1)]
    parts = [run(images, checkpoint, tmp_path / name, name) for name in names]
    merged = tmp_path / "merged"
    merge(parts, merged / "images.csv", merged / "summary.json", merged / "sr", merged / "timings.csv")
    for name in ("images.csv", "summary.json", *(f"sr/{letter}.png" for letter in "abcde")):
        assert (merged / name).read_bytes() == (whole / name).read_bytes(), name
    costs = (merged / "timings.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in costs] == ["image", *"abcde"]


def test_how_several_references_are_used_comes_from_a_part_that_has_some(tmp_path):
    about = {"variant": "extracter-rec", "set": "views", "stand_in": False, "references": "pooled"}
    parts = []
    for number, several in enumerate((None, "searched together")):
        part = tmp_path / str(number)
        row = {"image": "ab"[number], "reference": "c", "psnr_y": 30.0, "ssim_y": 0.9}
        write_csv(part / "images.csv", [row], COLUMNS)
        write_json(part / "summary.json", summarise([row], about | {"several": several}))
        parts.append(part)
    merge(parts, tmp_path / "images.csv", tmp_path / "summary.json", tmp_path / "sr", None)
    assert read_json(tmp_path / "summary.json")["several"] == "searched together"


def test_what_is_no_part_is_one_sentence(tmp_path):
    for text in ("0-of-2", "3-of-2", "1/2", ""):
        with pytest.raises(UserError, match="write the number of the part"):
            parse_part(text)
    images, checkpoint = write_test_set(tmp_path / "set"), write_checkpoint(tmp_path / "weights")
    parts = [run(images, checkpoint, tmp_path / "1", "1-of-2"), run(images, None, tmp_path / "2", "2-of-2", "bicubic")]
    written = (tmp_path / "images.csv", tmp_path / "summary.json", tmp_path / "sr", None)
    with pytest.raises(UserError, match=r"2: of variant bicubic, but .*1 is of extracter-rec"):
        merge(parts, *written)
    about = read_json(parts[0] / "summary.json")
    write_json(parts[1] / "summary.json", {key: value for key, value in about.items() if key != "padding"})
    with pytest.raises(UserError, match=rf"2: of padding None, but .*1 is of {about['padding']}"):
        merge(parts, *written)
    shutil.rmtree(parts[1])
    with pytest.raises(UserError, match=r"summary\.json"):
        merge(parts, *written)
