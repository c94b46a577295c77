"""The test set `views`: its table, its preparation and the choice of references."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from prepared import rows

from extracter import params
from extracter.data import manifest, views
from extracter.data.datasets import TestSet
from extracter.data.degradation import downscale, upscale
from extracter.data.prepare import prepare_test
from extracter.download import registry
from extracter.download.download import download
from extracter.errors import UserError
from extracter.metrics import psnr_y
from extracter.presets import TestData

SHARED = Path(__file__).parents[3].parent / "shared"
ARCHES = [f"arches_ridge/JDW_95{n}.jpg" for n in (18, 19, 20)]


@pytest.fixture
def raw(tmp_path, photograph, raw_set) -> Path:
    """The scene arches_ridge, in which JDW_9519 is an input, and the photograph of another scene that it is given."""
    folder = tmp_path / "views"
    table = views.pairs()
    unrelated = table[(table.image == ARCHES[1]) & (table.level == 5)].reference.item()
    for number, path in enumerate((*ARCHES, unrelated)):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        photograph(number, 900 + 60 * number, 600).save(folder / path, quality=95)
    raw_set.rewrite(folder, "views", "views", "published")
    return folder


@pytest.fixture
def prepared(raw, tmp_path) -> Path:
    data = TestData(source="published", folder=None, references="pooled")
    prepare_test("views", data, raw, tmp_path / "out", seed=1)
    return tmp_path / "out"


def test_the_table_names_files_of_the_listing_and_grades_them():
    table = views.pairs()
    files = {file.path for file in registry.TEST_SOURCES["views"].files()}
    assert set(table.image) | set(table.reference) == files
    assert (len(files), table.image.nunique(), len(table)) == (98, 47, 189)
    picked = table[table.pick == "level"]
    assert picked.groupby("level").size().to_dict() == {1: 29, 2: 32, 3: 28, 4: 25, 5: 47}
    assert not picked.duplicated(["image", "level"]).any()
    scenes = table.image.str.split("/").str[0] == table.reference.str.split("/").str[0]
    assert (scenes == (table.level != 5)).all()
    assert len({views.name_of(path) for path in files}) == 98


def test_no_photograph_of_the_set_is_trained_on():
    digests = {name: {file.sha256 for file in registry.listed(name)} for name in ("views", "photographs_and_views")}
    assert not digests["views"] & digests["photographs_and_views"]


def test_preparation_reduces_to_512_pixels_and_crops(raw, prepared):
    with Image.open(raw / ARCHES[1]) as image:
        reduced = image.convert("RGB").resize((512, 320), Image.Resampling.LANCZOS)  # 960 x 600
    with Image.open(prepared / "hr/arches_ridge_JDW_9519.png") as hr:
        assert np.array_equal(np.asarray(hr), np.asarray(reduced))
    assert {path.name for path in (prepared / "hr").iterdir()} == {"arches_ridge_JDW_9519.png"}
    assert len(list((prepared / "ref").iterdir())) == 3
    with Image.open(prepared / "ref/arches_ridge_JDW_9518.png") as ref:
        assert ref.size == (512, 340)  # 900 x 600: 512 x 341
    table = rows(prepared)
    assert [row["level"] for row in table] == ["self", "2", "2", "5"]


def test_each_choice_of_references(prepared):
    pooled = TestSet(prepared)
    assert (pooled.references, len(pooled)) == ("pooled", 1)
    (image,) = pooled
    assert (image.reference, len(image.more), image.inliers) == ("arches_ridge_JDW_9518", 1, 759)
    (second,) = TestSet(prepared, "level_2")
    assert (second.reference, second.more) == ("arches_ridge_JDW_9518", ())
    (own,) = TestSet(prepared, "self")
    assert torch.equal(own.ref, own.lr_up)
    small = downscale(Image.open(prepared / "lr_up/arches_ridge_JDW_9519.png"))
    with Image.open(prepared / "self_du/arches_ridge_JDW_9519.png") as found:
        assert np.array_equal(np.asarray(found), np.asarray(upscale(small)))
    (unrelated,) = TestSet(prepared, "level_5")
    assert not unrelated.reference.startswith("arches_ridge")
    with pytest.raises(UserError, match="names no image"):
        TestSet(prepared, "level_1")
    with pytest.raises(UserError, match=r"'level_6': the set `views` has level_1, .* self"):
        TestSet(prepared, "level_6")


def test_published_references_of_other_sets_are_chosen_by_rank(raw_set, test_data, tmp_path):
    files = dict.fromkeys(("000_0.png", *(f"000_{n}.png" for n in range(1, 6)), "001_0.png", "001_1.png"), (40, 32))
    raw = raw_set("cufed5", files, layout="cufed5")
    prepare_test("cufed5", test_data("pooled"), raw, tmp_path / "out", seed=1)
    pooled = list(TestSet(tmp_path / "out"))
    assert [(image.reference, len(image.more)) for image in pooled] == [("000_1", 4), ("001_1", 0)]
    assert [image.reference for image in TestSet(tmp_path / "out", "own")] == ["000_1", "001_1"]
    (third,) = TestSet(tmp_path / "out", "level_3")
    assert torch.equal(third.ref, pooled[0].more[1][0])
    with pytest.raises(UserError, match="prepared with the references pooled, not self"):
        TestSet(tmp_path / "out", "self")
    files = {"Sun_Hays_SR_groundtruth/a.jpg": (40, 32), "Sun_Hays_SR_scenematches/a.jpg/x.jpg": (36, 36)}
    prepare_test("sun80", test_data("own"), raw_set("sun80", files, "sun_hays"), tmp_path / "sun", seed=1)
    with pytest.raises(UserError, match="sun80: its references are in no order of similarity"):
        TestSet(tmp_path / "sun", "level_1")


def test_other_sets_have_the_references_they_were_prepared_with(raw_set, test_data, tmp_path):
    prepare_test("sun80", test_data("self"), raw_set("sun80", {"a.png": (40, 33)}), tmp_path / "out", seed=1)
    assert len(TestSet(tmp_path / "out", "self")) == 1
    with pytest.raises(UserError, match="prepared with the references self, not pooled"):
        TestSet(tmp_path / "out", "pooled")


def test_a_set_without_references_is_refused(raw, raw_set, tmp_path):
    (raw / ARCHES[0]).unlink()
    raw_set.rewrite(raw, "views", "views", "published")
    data = TestData(source="published", folder=None, references="self")
    with pytest.raises(UserError, match="no photograph with all of its references"):
        prepare_test("views", data, raw, tmp_path / "out", seed=1)


def test_references_that_a_set_cannot_have_are_refused():
    config = params.read(Path(__file__).parents[3] / "params.yaml").presets["open"].model_dump()
    config["data"]["tests"]["cufed5"] = {"source": "published", "folder": None, "references": "pooled"}
    params.validate({"preset": "open", "presets": {"open": config}})
    config["data"]["tests"]["set14"]["references"] = "level_1"
    with pytest.raises(UserError, match=r"tests\.set14\.references: level_1`: of set14 allowed are own, self, random"):
        params.validate({"preset": "open", "presets": {"open": config}})


@pytest.mark.skipif(not (SHARED / "mirror").is_dir(), reason=f"no mirror at {SHARED / 'mirror'}")
def test_every_eighth_photograph_of_the_real_set(tmp_path):
    data = params.read(Path(__file__).parents[3] / "params.yaml").presets["open"].data.tests["views"]
    download("views", data, tmp_path / "raw", mirror=str(SHARED / "mirror"), local=None, every=8)
    assert 5 < len(manifest.read(tmp_path / "raw")["files"]) < 40
    prepare_test("views", data, tmp_path / "raw", tmp_path / "out", seed=1)
    images = list(TestSet(tmp_path / "out", "level_5"))
    assert len(images) >= 5
    for image in images:
        assert max(image.hr_pixels.shape) == 512
        bicubic = ((image.lr_up[0] + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).numpy()
        assert 18 < psnr_y(image.hr_pixels, bicubic) < 40
