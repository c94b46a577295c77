"""References warped onto the input, held against warps that are known."""

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image
from scenes import scene, seen_from

from extracter.data import registration
from extracter.data.datasets import TestImage, with_reference, with_registered
from extracter.data.degradation import downscale, upscale
from extracter.data.registration import register_copy
from extracter.image_tensors import to_tensor, to_uint8
from extracter.metrics import psnr_y


def du(image: Image.Image) -> np.ndarray:
    return np.asarray(upscale(downscale(image)))


def register(lr_up: np.ndarray, ref: np.ndarray, ref_du: np.ndarray) -> np.ndarray | None:
    """The pixels of `register_copy`, None where there is no copy."""
    copy = register_copy(lr_up, ref, ref_du)
    return None if copy is None else copy.pixels


def middle(pixels: np.ndarray) -> np.ndarray:
    return pixels[40:-40, 50:-50]


@pytest.fixture(scope="module")
def pair() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """HR, LR_up, reference, Ref_du."""
    image = scene(1)
    other = seen_from(image)
    return np.asarray(image), du(image), np.asarray(other), du(other)


@pytest.mark.parametrize(("scale", "degrees"), [(1.1, 8.0), (0.8, -20.0), (1.0, 3.0)])
def test_a_turned_and_scaled_reference_comes_into_place(scale, degrees):
    image = scene(1)
    other = seen_from(image, scale, degrees)
    found = register(du(image), np.asarray(other), du(other))
    hr, lr_up = np.asarray(image), du(image)
    assert found.shape == hr.shape
    light = (255 * (hr / 255.0) ** 1.2).astype(np.uint8)
    # As sharp and as near to the original, but for its light, as no enlargement is.
    assert psnr_y(middle(light), middle(found)) > psnr_y(middle(hr), middle(lr_up)) + 3


def test_a_finer_reference_is_reduced(pair):
    hr, lr_up, _, _ = pair
    large = Image.fromarray(hr).resize((3 * hr.shape[1], 3 * hr.shape[0]), Image.Resampling.LANCZOS)
    found = register(lr_up, np.asarray(large), du(large))
    assert psnr_y(middle(hr), middle(found)) > psnr_y(middle(hr), middle(lr_up)) + 3


def test_a_copy_is_what_the_reference_shows_and_nothing_else(pair):
    """No pixel of LR_up, which a search for LR_up would prefer to all textures."""
    hr, lr_up, ref, _ = pair
    half = Image.fromarray(ref[:, : ref.shape[1] // 2 // 4 * 4])
    found, (top, left) = register_copy(lr_up, np.asarray(half), du(half))
    height, width = found.shape[:2]
    assert (4 * top + height <= hr.shape[0]) & (4 * left + width <= hr.shape[1])
    assert height % 4 == width % 4 == 0
    assert hr.shape[1] * 0.4 < width < hr.shape[1] * 0.7
    assert height > 0.9 * hr.shape[0]
    light = (255 * (hr / 255.0) ** 1.2).astype(np.uint8)
    assert psnr_y(light[80:-80, 40:100], found[80 : hr.shape[0] - 80, 40:100]) > 25


def test_another_scene_has_no_place(pair):
    _, lr_up, _, _ = pair
    other = scene(2)
    assert register(lr_up, np.asarray(other), du(other)) is None
    flat = np.full_like(lr_up, 90)
    assert register(lr_up, flat, flat) is None
    assert register(flat, lr_up, lr_up) is None
    mirrored = Image.fromarray(lr_up[:, ::-1].copy())
    assert register(lr_up, np.asarray(mirrored), du(mirrored)) is None


def test_what_is_in_place_already_is_not_copied(pair):
    hr, lr_up, _, _ = pair
    assert register(lr_up, hr, lr_up) is None


def test_images_of_extreme_size_are_left_alone(pair):
    tiny = np.asarray(scene(1))[:60, :60]
    assert register(tiny, tiny, tiny) is None
    _, lr_up, _, _ = pair
    long = np.broadcast_to(lr_up[:64, :1], (64, 2**15, 3))  # more than OpenCV can warp
    assert register(lr_up, long, long) is None


def test_kinds_of_pixels_agree(pair):
    _, lr_up, ref, ref_du = pair
    eight = register(lr_up, ref, ref_du)
    sixteen = register(*(x.astype(np.uint16) * 257 for x in (lr_up, ref, ref_du)))
    floating = register(*(x.astype(np.float32) / 127.5 - 1 for x in (lr_up, ref, ref_du)))
    assert (sixteen.dtype, floating.dtype) == (np.uint16, np.float32)
    assert np.abs(floating).max() <= 1
    assert np.abs(sixteen / 257 - eight).max() < 1.5
    assert np.abs((floating + 1) * 127.5 - eight).max() < 1.5
    mixed = register(lr_up.astype(np.uint16) * 257, ref, ref_du)
    assert mixed.dtype == np.uint8
    assert np.abs(mixed.astype(int) - eight).max() <= 1


def test_large_images_are_registered_on_smaller_ones(monkeypatch, pair):
    hr, lr_up, ref, ref_du = pair
    monkeypatch.setattr(registration, "LONG_SIDE", 200)
    monkeypatch.setattr(registration, "_STRIP", 50)
    found = register(lr_up, ref, ref_du)
    light = (255 * (hr / 255.0) ** 1.2).astype(np.uint8)
    assert psnr_y(middle(light), middle(found)) > psnr_y(middle(hr), middle(lr_up)) + 1


def test_the_number_of_threads_changes_nothing(pair):
    _, lr_up, ref, ref_du = pair
    results = []
    before = cv2.getNumThreads()
    for count in (1, 4):
        cv2.setNumThreads(count)
        results.append(register(lr_up, ref, ref_du))
        assert cv2.getNumThreads() == count
    cv2.setNumThreads(before)
    np.testing.assert_array_equal(*results)


def test_copies_stand_after_the_references(pair):
    hr, lr_up, ref, ref_du = pair
    lr = np.asarray(downscale(Image.fromarray(hr)))
    tensors = [to_tensor(x[None]) for x in (lr, lr_up, ref, ref_du, hr)]
    image = TestImage("a", "b", *tensors, hr)
    unrelated = with_reference(image, scene(2))
    several = replace(image, more=((unrelated.ref, unrelated.ref_du),))
    found = with_registered(several)
    assert len(found.more) == 2
    assert found.more[0][0] is unrelated.ref
    np.testing.assert_array_equal(to_uint8(found.more[1][0]), register(lr_up, ref, ref_du))
    np.testing.assert_array_equal(to_uint8(found.more[1][1]), du(Image.fromarray(to_uint8(found.more[1][0]))))
    assert found.places == (None, None, register_copy(lr_up, ref, ref_du).place)
    alone = with_registered(unrelated)
    assert alone.more == ()
    assert not any(alone.places)
    assert math.isclose(float(found.ref.mean()), float(image.ref.mean()))
