"""Geometry and photometry of self-reference pairs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import map_coordinates

from extracter.data.pairs import Region, crop_pair, extend, recolour, warp


def test_a_warp_without_change_is_a_crop(photograph):
    photo = photograph(1, 60, 50)
    found = warp(photo, (30, 20), (16, 12))
    assert np.array_equal(np.asarray(found), np.asarray(photo)[14:26, 22:38])


@given(st.floats(-45, 45), st.floats(0.8, 1.2))
@settings(max_examples=20, deadline=None)
def test_a_warp_samples_where_the_rotation_says(rotation, scale):
    x, y = np.meshgrid(np.arange(100), np.arange(100))
    smooth = 128 + 60 * np.sin(x / 17) + 60 * np.cos(y / 13)
    photo = Image.fromarray(np.repeat(np.rint(smooth)[..., None], 3, 2).astype(np.uint8))
    found = np.asarray(warp(photo, (52.0, 47.0), (20, 16), scale=scale, rotation=rotation))[..., 0].astype(float)
    angle = np.deg2rad(rotation)
    u, v = np.meshgrid(np.arange(20) + 0.5 - 10, np.arange(16) + 0.5 - 8)
    source_x = 52 + scale * (np.cos(angle) * u - np.sin(angle) * v) - 0.5
    source_y = 47 + scale * (np.sin(angle) * u + np.cos(angle) * v) - 0.5
    wanted = map_coordinates(smooth, [source_y, source_x], order=3)
    # Pillow cuts what is behind the point; half a pixel to the side would make up to 4 levels of difference.
    assert np.abs(found + 0.5 - wanted).max() < 2


def test_a_warp_outside_the_photograph_is_refused(photograph):
    with pytest.raises(ValueError, match="leaves"):
        warp(photograph(1, 40, 40), (10, 20), (20, 20), rotation=10)


def test_recolour_by_hand():
    image = Image.new("RGB", (1, 1), (64, 128, 255))
    gain, gamma = (0.5, 1.0, 1.5), 2.0
    wanted = (round(127.5 * (64 / 255) ** 2), round(255 * (128 / 255) ** 2), 255)
    assert recolour(image, gain, gamma).getpixel((0, 0)) == wanted


def test_extend_mirrors_and_leaves_larger_photographs_alone(photograph):
    photo = photograph(1, 10, 40)
    pixels = np.asarray(extend(photo, 32))
    assert pixels.shape == (40, 32, 3)
    assert np.array_equal(pixels[:, 10:20], np.asarray(photo)[:, ::-1])
    assert extend(photo, 8) is photo


@given(
    st.integers(32, 90),
    st.integers(32, 90),
    st.floats(0, 0.9),
    st.floats(0, 0.5),
    st.floats(0, 180),
    st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_pairs_stay_in_their_region(width, height, shift, scale, rotation, seed):
    from extracter.presets import TrainData

    data = TrainData(
        source="demo", folder=None, size=32, pairs=1, validation=1, shift=shift, scale=scale, rotation=rotation,
        photometry=0.0,
        ref_size=None,
        validation_ref_size=None,
        mixture=None,
    )  # fmt: skip
    region = Region(5, 7, 5 + width, 7 + height)
    pixels = np.zeros((height + 20, width + 20, 3), np.uint8)
    pixels[7 : 7 + height, 5 : 5 + width] = 255
    hr, ref = crop_pair(Image.fromarray(pixels), region, data, np.random.default_rng(seed))
    assert hr.size == ref.size == (32, 32)
    assert np.asarray(hr).min() == 255
    # Bicubic sampling reads up to two pixels beyond the area, so only the region's edge may be darker.
    assert np.asarray(ref)[3:-3, 3:-3].min() > 200


def test_without_parameters_input_and_reference_are_equal(photograph, train_data):
    data = train_data(shift=0.0, scale=0.0, rotation=0.0, photometry=0.0)
    hr, ref = crop_pair(photograph(1, 50, 60), Region(0, 0, 50, 60), data, np.random.default_rng(1))
    assert np.array_equal(np.asarray(hr), np.asarray(ref))


def test_a_shift_alone_gives_exact_pixels_of_the_same_photograph(photograph, train_data):
    photo = photograph(1, 80, 70)
    data = train_data(shift=0.5, scale=0.0, rotation=0.0, photometry=0.0)
    hr, ref = crop_pair(photo, Region(0, 0, 80, 70), data, np.random.default_rng(4))
    windows = np.lib.stride_tricks.sliding_window_view(np.asarray(photo), (32, 32, 3))[:, :, 0]
    places = {}
    for name, image in (("hr", hr), ("ref", ref)):
        found = np.argwhere((windows == np.asarray(image)).all(axis=(2, 3, 4)))
        assert len(found) == 1
        places[name] = found[0]
    distance = np.abs(places["hr"] - places["ref"])
    assert 0 < distance.max() <= 16
