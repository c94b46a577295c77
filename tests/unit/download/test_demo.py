"""The stand-in sets: disjoint, deterministic, of the structure of the sets they stand for."""

import filecmp
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.feature import match_template

from extracter.data.references import arrange
from extracter.download import demo
from extracter.download.download import download
from extracter.errors import UserError

TESTS = ("cufed5", "sun80", "urban100", "set14")


def grey(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("L").reduce(4), dtype=float)


def likeness(photo: np.ndarray, image: np.ndarray) -> float:
    """Best normalised cross-correlation of the image's middle anywhere in the photograph; tints do not matter."""
    height, width = image.shape
    return match_template(photo, image[height // 4 : -(height // 4), width // 4 : -(width // 4)]).max()


def windows(image: Image.Image, side: int = 8) -> set[bytes]:
    """All textured windows of the image as bytes, on a coarse grid."""
    pixels = np.asarray(image)
    found = set()
    for y in range(0, pixels.shape[0] - side, 5):
        for x in range(0, pixels.shape[1] - side, 5):
            window = pixels[y : y + side, x : x + side]
            if window.std() > 6:
                found.add(window.tobytes())
    return found


def contains(photo: Image.Image, wanted: set[bytes], side: int = 8) -> bool:
    pixels = np.asarray(photo)
    first = {np.frombuffer(window, np.uint8)[:12].tobytes() for window in wanted}
    for y in range(pixels.shape[0] - side + 1):
        row = pixels[y].tobytes()
        for x in range(pixels.shape[1] - side + 1):
            if row[3 * x : 3 * x + 12] in first and pixels[y : y + side, x : x + side].tobytes() in wanted:
                return True
    return False


def test_no_photograph_is_in_training_and_in_a_test_set():
    shown = {name: {cut.photograph for cut in cuts.values()} for name, (_, cuts) in demo.SETS.items()}
    for name in TESTS:
        assert not shown["train"] & shown[name]
    assert shown["cufed5"] >= {"motorcycle"}  # both views count as one photograph


def test_no_pixels_are_in_training_and_in_a_test_set():
    training = [demo.crop(cut) for cut in demo.TRAIN.values()]
    greys = [grey(photo) for photo in training]
    wanted = set()
    for name in TESTS:
        for path, cut in demo.SETS[name][1].items():
            image = demo.crop(cut)
            wanted |= windows(image)
            closest = max(likeness(photo, grey(image)) for photo in greys)
            assert closest < 0.88, f"{name}/{path} shows a training photograph"
    assert not any(contains(photo, wanted) for photo in training)


def test_the_pixel_check_sees_crops_tints_and_the_other_view():
    photo = demo.crop(demo.Cut("motorcycle_left.png"))
    crop = demo.crop(demo.Cut("motorcycle_left.png", (101, 203, 90, 80)))
    assert contains(photo, windows(crop))
    tinted = demo.crop(demo.Cut("motorcycle_left.png", (100, 200, 200, 160), gain=(0.7, 0.9, 1.0), gamma=1.3))
    assert likeness(grey(photo), grey(tinted)) > 0.95
    assert likeness(grey(photo), grey(demo.crop(demo.CUFED5["000"][1]))) > 0.88


def test_structure_of_the_sets():
    layouts = {name: arrange(layout, [{"path": path} for path in cuts]) for name, (layout, cuts) in demo.SETS.items()}
    assert [len(image.references) for image in layouts["cufed5"]] == [5, 5, 5]
    assert all(len(image.references) >= 2 for image in layouts["sun80"])
    assert all(not image.references for name in ("urban100", "set14") for image in layouts[name])
    assert all(len(layouts[name]) >= 3 for name in TESTS)
    pair = demo.CUFED5["000"][:2]
    assert [cut.file for cut in pair] == ["motorcycle_left.png", "motorcycle_right.png"]


def test_sizes_suit_a_cpu_and_table_3():
    for name in TESTS:
        sizes = [demo.crop(cut).size for cut in demo.SETS[name][1].values()]
        assert max(max(size) for size in sizes) <= 512
        assert any(side % 4 for size in sizes for side in size)
    for name in ("sun80", "urban100"):
        assert any(min(demo.crop(cut).size) >= 384 for cut in demo.SETS[name][1].values())


def patches(image: Image.Image, stride: int) -> np.ndarray:
    """Normalised 12x12 patches of the grey image, textured ones only, one a row."""
    pixels = np.asarray(image.convert("L"), dtype=np.float32)
    view = np.lib.stride_tricks.sliding_window_view(pixels, (12, 12))[::stride, ::stride].reshape(-1, 144)
    view = view - view.mean(1, keepdims=True)
    norm = np.linalg.norm(view, axis=1, keepdims=True)
    return (view / np.maximum(norm, 1e-3))[norm[:, 0] > 60]


@pytest.mark.parametrize("name", list(demo.CUFED5))
def test_similarity_falls_from_the_first_reference_to_the_last(name):
    query, *references = demo.CUFED5[name]
    wanted = patches(demo.crop(query), 16)
    found = [(wanted @ patches(demo.crop(cut), 2).T).max(1).mean() for cut in references]
    assert found == sorted(found, reverse=True)
    assert found[0] > found[4] + 0.1


def test_two_runs_give_the_same_bytes(tmp_path, test_data):
    for run in ("a", "b"):
        download("set14", test_data(), tmp_path / run, mirror=None, local=None, every=1)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == ["ihc.png", "manifest.json", "moon.png", "page.png", "text.png"]
    assert filecmp.cmpfiles(tmp_path / "a", tmp_path / "b", names, shallow=False)[0] == names


def test_every_counts_from_one(tmp_path, test_data):
    download("cufed5", test_data("own"), tmp_path, mirror=None, local=None, every=2)
    assert sorted(path.name for path in tmp_path.glob("*.png")) == [f"001_{rank}.png" for rank in range(6)]
    with pytest.raises(UserError, match=r"fewer than 4 images.* lower evaluation\.every"):
        download("cufed5", test_data("own"), tmp_path, mirror=None, local=None, every=4)


def test_a_missing_photograph_and_an_unknown_set_are_named(monkeypatch, tmp_path, test_data):
    with pytest.raises(UserError, match=r"set5: .*no stand-in"):
        download("set5", test_data(), tmp_path, mirror=None, local=None, every=1)
    monkeypatch.setattr(demo.skimage, "__file__", str(tmp_path / "__init__.py"))
    with pytest.raises(UserError, match=r"data/page\.png: missing from this scikit-image; install"):
        demo.crop(demo.Cut("page.png"))
    assert Path(demo.skimage.__file__).parent == tmp_path
