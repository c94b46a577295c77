"""Where textures come from: each output region has the colour of the place it was copied from."""

import numpy as np
import pytest
import torch
from skimage.color import rgb2lab

from extracter.inference.upscaler import Upscaler
from extracter.models.extracter import Extracter
from extracter.photos.photo import Photo
from extracter.reporting.origins import origin_map, origin_of, patch_grid, source_square, spread, tinted
from extracter.search.search import Matches, SearchConfig

CONFIG = SearchConfig(3, 1, 1)
# Machado, Oliveira and Fernandes (2009): what readers without one kind of cone see, in linear RGB.
BLIND = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
}


def matches_of(indices: list[int], keys: int) -> Matches:
    found = torch.tensor(indices).view(1, 1, -1)
    return Matches(found, torch.ones(found.shape), keys)


def test_identical_places_have_the_colours_of_the_key():
    """A search that finds every patch at its own place gives the colours that `tinted` lays over a black reference."""
    origins = origin_map(matches_of(list(range(48)), 48), (6, 8), [(24, 32)], CONFIG)
    key = tinted(np.zeros((6, 8, 3), np.uint8), 0, 1)
    assert np.abs(origins // 2 - key.astype(int)).max() <= 1
    assert len(np.unique(origins.reshape(-1, 3), axis=0)) == 48


def test_places_are_those_of_the_indices():
    """Two references of different widths; keys count on from one to the next, column by column within a row."""
    sizes = [(8, 12), (16, 8)]  # 2 x 3 and 4 x 2 keys
    found = matches_of([5, 6, 7, 13, 0, 2], 14)
    places = [origin_of(found, (2, 3), sizes, CONFIG, (4 * (n // 3) + 1, 4 * (n % 3) + 3)) for n in range(6)]
    assert places == [(0, (6, 10)), (1, (2, 2)), (1, (2, 6)), (1, (14, 6)), (0, (2, 2)), (0, (2, 10))]
    origins = origin_map(found, (2, 3), sizes, CONFIG).reshape(6, 3)
    assert origins[4].tolist() == [0, 45, 115]  # the first reference's top left corner
    assert origins[3].tolist() == [255, 220, 120]  # the last one's bottom right corner
    assert len(np.unique(origins, axis=0)) == 6


def test_sizes_that_no_patch_divides():
    config = SearchConfig(6, 2, 2)
    assert patch_grid(5, 7, config) == (3, 4)
    origins = origin_map(matches_of([0] * 12, 6), (5, 7), [(16, 24)], config)
    assert origins.shape == (3, 4, 3)
    assert spread(origins, 20, 28, 8).shape == (20, 28, 3)


def test_spread_repeats_each_pixel():
    origins = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    large = spread(origins, 8, 7, 4)
    assert (large[:4, :4] == origins[0, 0]).all()
    assert (large[4:, 4:] == origins[1, 1]).all()


def test_matches_of_other_images_are_refused():
    with pytest.raises(ValueError, match="12 queries and 6 keys are not those of LR"):
        origin_map(matches_of([0] * 12, 6), (3, 5), [(8, 12)], CONFIG)


@pytest.mark.parametrize("missing_cone", sorted(BLIND))
def test_readers_without_one_kind_of_cone_tell_places_apart(missing_cone):
    """Quarters of the reference differ by at least 10 in CIE L*a*b*, where 2.3 is just noticeable."""
    colours = tinted(np.zeros((5, 5, 3), np.uint8), 0, 1).reshape(-1, 3) * 2 / 255
    linear = np.where(colours > 0.04045, ((colours + 0.055) / 1.055) ** 2.4, colours / 12.92)
    seen = (linear @ np.array(BLIND[missing_cone]).T).clip(0, 1)
    seen = np.where(seen > 0.0031308, 1.055 * seen ** (1 / 2.4) - 0.055, seen * 12.92)
    lab = rgb2lab(seen)
    distances = np.linalg.norm(lab[:, None] - lab[None], axis=2)[~np.eye(25, dtype=bool)]
    assert distances.min() > 10


def test_of_a_real_search(photograph):
    """A reference that is the image's own original: most textures come from their own place."""
    original = np.asarray(photograph(3, 96, 72))
    lr = np.asarray(photograph(3, 96, 72).resize((24, 18), 3))
    torch.manual_seed(0)
    model = Extracter(features=8, dfe_width=4, ife_blocks=1, csfi_blocks=(1, 1, 1), gde_blocks=(1, 1, 1))
    result = Upscaler(model, search="exact", kernel=3).run(Photo(lr), [Photo(original)])
    origins = origin_map(result.matches, (18, 24), [(72, 96)], result.search)
    expected = origin_map(matches_of(list(range(432)), 432), (18, 24), [(72, 96)], result.search)
    assert (origins == expected).all(2).mean() > 0.8


def test_the_source_of_a_square_is_where_most_of_its_matches_lie():
    """Of 8 x 12 patches those of a square come from the second reference, 3 cells down and 5 across, but for one."""
    rows, columns = np.mgrid[0:4, 0:4]
    indices = np.zeros((8, 12), int)
    indices[2:6, 1:5] = 6 * 6 + (3 + rows) * 16 + 5 + columns
    indices[2, 1] = 0
    found = source_square(
        matches_of(indices.ravel().tolist(), 6 * 6 + 10 * 16), (8, 12), [(24, 24), (40, 64)], CONFIG, (8, 4, 16)
    )
    assert found == (1, (12, 20, 16))


def test_the_source_lies_in_a_reference_that_is_smaller_than_the_square():
    found = matches_of([8] * 96, 9)
    assert source_square(found, (8, 12), [(12, 11)], CONFIG, (0, 0, 32)) == (0, (1, 0, 11))
