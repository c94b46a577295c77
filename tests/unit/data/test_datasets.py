"""Batches as a pure function of seed and step, and test sets as prepared."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from extracter.data import manifest
from extracter.data.datasets import TestSet, TrainingPairs
from extracter.data.degradation import downscale, upscale
from extracter.data.prepare import prepare_test, prepare_train
from extracter.errors import UserError
from extracter.image_tensors import to_signed, to_tensor


@pytest.fixture
def pairs(raw_set, train_data, tmp_path) -> TrainingPairs:
    photos = raw_set("train", {"a.png": (120, 60), "b.png": (70, 90)})
    prepare_train(train_data(), photos, tmp_path / "train", seed=1)
    return TrainingPairs(tmp_path / "train")


@pytest.fixture(scope="session")
def training(tiny_preset):
    plain = {"turn_apart": 1.0, "self_reference": 0.0, "other_reference": 0.0}
    return lambda **changes: tiny_preset.train.model_copy(update={**plain, **changes})


def signed(images: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The networks' values of a batch."""
    assert all(pixels.dtype == torch.uint8 for pixels in images.values())
    return {name: to_signed(pixels) for name, pixels in images.items()}


def batch_of(pairs: TrainingPairs, step: int, params, seed: int) -> dict[str, torch.Tensor]:
    return signed(pairs.batch(step, params, seed))


def orientations(image: torch.Tensor) -> list[torch.Tensor]:
    turned = [torch.rot90(image, k, (1, 2)) for k in range(4)]
    return turned + [t.flip(2) for t in turned]


def bicubic_consistent(batch: dict[str, torch.Tensor]) -> bool:
    """Whether lr_up is closer to its own hr than to any other of the batch, and ref_du to its ref."""
    for up, full in (("lr_up", "hr"), ("ref_du", "ref")):
        distance = (batch[up][:, None] - batch[full][None]).abs().mean((2, 3, 4))
        if not torch.equal(distance.argmin(1), torch.arange(len(distance))):
            return False
    return True


def test_shapes_ranges_and_families(pairs, training):
    batch = batch_of(pairs, 0, training(batch=6, swap=0.5), 3)
    sides = {"lr": 8, "lr_up": 32, "hr": 32, "ref_du": 32, "ref": 32}
    assert {name: tuple(value.shape) for name, value in batch.items()} == {n: (6, 3, s, s) for n, s in sides.items()}
    assert all(value.dtype == torch.float32 and value.abs().max() <= 1 for value in batch.values())
    assert bicubic_consistent(batch)
    low = torch.nn.functional.avg_pool2d(batch["lr_up"], 4)
    assert (low - batch["lr"]).abs().mean() < 0.08


def test_a_batch_depends_on_seed_and_step_alone(pairs, training):
    first = batch_of(pairs, 5, training(batch=4, swap=0.5), 3)
    torch.manual_seed(99)
    batch_of(pairs, 1, training(batch=4, swap=0.5), 8)
    again = batch_of(TrainingPairs(pairs.folder), 5, training(batch=4, swap=0.5), 3)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["hr"], batch_of(pairs, 5, training(batch=4, swap=0.5), 4)["hr"])
    assert not torch.equal(first["hr"], batch_of(pairs, 6, training(batch=4, swap=0.5), 3)["hr"])


@pytest.mark.parametrize("size", [3, 4, 7])
def test_an_epoch_shows_every_training_pair_once_and_no_validation_pair(pairs, size, training):
    wanted = [to_tensor(image[None])[0] for image in np.load(pairs.folder / "hr.npy")]
    seen = torch.cat(
        [batch_of(pairs, step, training(batch=size, swap=0.0), 3)["hr"] for step in range(size * len(wanted))]
    )
    for epoch in range(2):
        shown = seen[epoch * len(wanted) : (epoch + 1) * len(wanted)]
        for image in wanted:
            count = sum(any(torch.equal(turned, view) for turned in orientations(image)) for view in shown)
            assert count == 1


def test_input_and_reference_are_turned_apart_and_in_all_eight_ways(pairs, training):
    arrays = {name: np.load(pairs.folder / f"{name}.npy") for name in ("hr", "ref")}
    arrays["lr"] = np.stack([np.asarray(downscale(Image.fromarray(image))) for image in arrays["hr"]])
    arrays["ref_du"] = np.stack([np.asarray(upscale(downscale(Image.fromarray(image)))) for image in arrays["ref"]])
    together = set()
    for step in range(60):
        batch = batch_of(pairs, step, training(batch=2, swap=0.0), 11)
        for place in range(2):
            ways = {}
            for name, partner in (("hr", "lr"), ("ref", "ref_du")):
                for index in range(len(pairs)):
                    turned = orientations(to_tensor(arrays[name][index][None])[0])
                    way = [k for k in range(8) if torch.equal(turned[k], batch[name][place])]
                    if way:
                        ways[name] = way[0]
                        low = orientations(to_tensor(arrays[partner][index][None])[0])[way[0]]
                        assert torch.equal(low, batch[partner][place])
            together.add((ways["hr"], ways["ref"]))
    assert {way for way, _ in together} == {way for _, way in together} == set(range(8))
    assert len(together) > 30


def test_references_that_are_not_turned_apart_keep_their_place_beside_the_input(pairs, training):
    arrays = {name: np.load(pairs.folder / f"{name}.npy") for name in ("hr", "ref")}
    batch = batch_of(pairs, 0, training(batch=8, swap=0.0, turn_apart=0.0), 11)
    for hr, ref in zip(batch["hr"], batch["ref"], strict=True):
        turned = {name: [orientations(to_tensor(array[None])[0]) for array in arrays[name]] for name in arrays}
        places = [(i, k) for i in range(len(pairs)) for k in range(8) if torch.equal(turned["hr"][i][k], hr)]
        assert any(torch.equal(turned["ref"][i][k], ref) for i, k in places)


def test_a_reference_is_the_inputs_own_bicubic_or_another_pairs_as_often_as_asked(pairs, training):
    own = batch_of(pairs, 0, training(batch=8, self_reference=1.0, turn_apart=0.0), 3)
    assert torch.equal(own["ref"], own["lr_up"])
    assert not torch.equal(own["ref_du"], own["lr_up"])
    assert (own["ref_du"] - own["lr_up"]).abs().mean() < 0.1
    settings = training(batch=40, self_reference=0.3, other_reference=0.3, turn_apart=0.0, swap=0.0)
    mixed = [batch_of(pairs, step, settings, 3) for step in range(10)]
    share = np.mean([torch.equal(up, ref) for b in mixed for up, ref in zip(b["lr_up"], b["ref"], strict=True)])
    assert 0.2 < share < 0.4
    other = batch_of(pairs, 0, training(batch=40, other_reference=1.0, turn_apart=0.0, swap=0.0), 3)
    paired = batch_of(pairs, 0, training(batch=40, turn_apart=0.0, swap=0.0), 3)
    assert sum(torch.equal(a, b) for a, b in zip(other["ref"], paired["ref"], strict=True)) < 20


def test_prefetched_batches_are_the_batches(pairs, training):
    settings = training(batch=3)
    fetched = list(pairs.batches(range(2, 7), settings, 5, pin=False))
    assert len(fetched) == 5
    for step, batch in zip(range(2, 7), fetched, strict=True):
        assert all(torch.equal(images, pairs.batch(step, settings, 5)[name]) for name, images in batch.items())


@given(st.floats(0, 1), st.integers(0, 1000))
@settings(max_examples=5, deadline=None)
def test_swap_happens_as_often_as_asked(training, tmp_path_factory, swap, seed):
    folder = tmp_path_factory.mktemp("pairs")
    for name, value in (("hr", 50), ("ref", 200)):
        np.save(folder / f"{name}.npy", np.full((5, 32, 32, 3), value, np.uint8))
        np.save(folder / f"validation_{name}.npy", np.zeros((0, 32, 32, 3), np.uint8))
    lines = ["index,name,split,kind", *(f"{n},a,train,warped" for n in range(5))]
    (folder / "pairs.csv").write_text("\n".join(lines) + "\n")
    files = [manifest.describe(folder, path.name) for path in folder.iterdir()]
    manifest.write(folder, "train", "demo", stand_in=True, files=files)
    pairs = TrainingPairs(folder)
    batches = [batch_of(pairs, step, training(batch=10, swap=swap), seed) for step in range(40)]
    swapped = torch.cat([batch["hr"][:, 0, 0, 0] > 0 for batch in batches])
    for first, second in (("lr", "hr"), ("lr_up", "hr"), ("ref_du", "ref")):
        assert all(torch.equal(batch[first][:, 0, 0, 0], batch[second][:, 0, 0, 0]) for batch in batches)
    assert all(torch.equal(batch["hr"][:, 0, 0, 0] > 0, batch["ref"][:, 0, 0, 0] < 0) for batch in batches)
    assert abs(swapped.float().mean().item() - swap) < 5 * max((swap * (1 - swap) / 400) ** 0.5, 1e-9) + 1e-9


def test_validation_shows_the_held_out_pairs_as_they_are(pairs):
    found = [signed(pair) for pair in pairs.validation()]
    assert len(found) == 4
    assert set(found[0]) == {"lr", "lr_up", "hr", "ref_du", "ref"}
    assert [row["kind"] for row in pairs.rows["validation"]] == ["warped"] * 4
    arrays = {name: np.load(pairs.folder / f"validation_{name}.npy") for name in ("hr", "ref")}
    for index, pair in enumerate(found):
        for name, up in (("hr", "lr_up"), ("ref", "ref_du")):
            bicubic = np.asarray(upscale(downscale(Image.fromarray(arrays[name][index]))))
            assert torch.equal(pair[name], to_tensor(arrays[name][index][None]))
            assert torch.equal(pair[up], to_tensor(bicubic[None]))


def test_references_larger_than_inputs(tmp_path, training):
    rng = np.random.default_rng(0)
    for prefix, count, side in (("", 4, 48), ("validation_", 2, 80)):
        np.save(tmp_path / f"{prefix}hr.npy", rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8))
        np.save(tmp_path / f"{prefix}ref.npy", rng.integers(0, 256, (count, side, side, 3), dtype=np.uint8))
    lines = [f"{n},a,train,warped" for n in range(4)] + ["0,b,validation,warped", "1,c,validation,unrelated"]
    (tmp_path / "pairs.csv").write_text("\n".join(["index,name,split,kind", *lines]) + "\n")
    files = [manifest.describe(tmp_path, path.name) for path in tmp_path.iterdir()]
    manifest.write(tmp_path, "train", "demo", stand_in=True, files=files)
    pairs = TrainingPairs(tmp_path)
    batch = batch_of(pairs, 0, training(batch=16, swap=1.0, self_reference=0.5, turn_apart=0.0), 3)
    sides = {"lr": 8, "lr_up": 32, "hr": 32, "ref_du": 48, "ref": 48}
    assert {name: tuple(value.shape) for name, value in batch.items()} == {n: (16, 3, s, s) for n, s in sides.items()}
    hr = to_tensor(np.load(tmp_path / "hr.npy"))
    assert all(any(torch.equal(t, one) for o in hr for t in orientations(o)) for one in batch["hr"])
    assert [pair["ref"].shape[2] for pair in pairs.validation()] == [80, 80]
    assert [row["kind"] for row in pairs.rows["validation"]] == ["warped", "unrelated"]


def test_to_tensor_covers_minus_one_to_one():
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, 3)
    tensor = to_tensor(pixels)
    assert (tensor.min(), tensor.max()) == (-1, 1)
    back = ((tensor + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    assert np.array_equal(back, pixels)


def test_damaged_training_arrays_are_named(pairs):
    path = pairs.folder / "ref.npy"
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    with pytest.raises(UserError, match=r"ref\.npy: missing or not of the size"):
        TrainingPairs(pairs.folder)
    path.unlink()
    with pytest.raises(UserError, match=r"ref\.npy: missing"):
        TrainingPairs(pairs.folder)
    path.write_bytes(b"x" * len(whole))
    with pytest.raises(UserError, match=r"ref\.npy: not a NumPy array"):
        TrainingPairs(pairs.folder)


def test_a_test_set_gives_what_was_prepared(raw_set, test_data, tmp_path):
    raw = raw_set("sun80", {f"{n}.png": (40 + 5 * n, 33) for n in range(4)})
    prepare_test("sun80", test_data("random"), raw, tmp_path / "out", seed=1)
    images = TestSet(tmp_path / "out")
    assert (images.name, images.stand_in, images.references, len(images)) == ("sun80", True, "random", 4)
    by_name = {image.name: image for image in images}
    assert list(by_name) == ["0", "1", "2", "3"]
    for image in by_name.values():
        assert image.reference != image.name
        other = by_name[image.reference]
        assert torch.equal(image.ref, other.hr)
        assert torch.equal(image.ref_du, other.lr_up)
        assert image.lr.shape[2] * 4 == image.hr.shape[2] == image.hr_pixels.shape[0]
        assert torch.equal(image.hr, to_tensor(image.hr_pixels[None]))


def test_an_altered_test_image_is_named(raw_set, test_data, tmp_path):
    out = tmp_path / "out"
    prepare_test("sun80", test_data("self"), raw_set("sun80", {"a.png": (40, 33)}), out, seed=1)
    (out / "lr/a.png").write_bytes((out / "lr/a.png").read_bytes()[:-5])
    with pytest.raises(UserError, match=r"lr/a\.png: truncated PNG"):
        list(TestSet(out))
    (out / "references.csv").write_text("image,rank,reference,reference_du\n")
    with pytest.raises(UserError, match=r"references\.csv: missing or altered"):
        TestSet(out)


def test_an_altered_list_of_pairs_is_named(pairs):
    path = pairs.folder / "pairs.csv"
    path.write_text(path.read_text().replace("validation", "train", 1))
    with pytest.raises(
        UserError, match=r"pairs\.csv: missing or altered; delete .*manifest\.json and run the workflow"
    ):
        TrainingPairs(pairs.folder)
    path.unlink()
    with pytest.raises(UserError, match=r"pairs\.csv: missing or altered"):
        TrainingPairs(pairs.folder)
