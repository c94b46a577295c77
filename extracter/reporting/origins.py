"""Where textures come from: each part of a result in the colour of the place in the references it was copied from.

Colours run from blue at the left edge to orange at the right and from dark at the top to light at the bottom, so that
readers who confuse red and green can tell places apart, too. Several references lie side by side, each with its share
of the way from blue to orange.
"""

from collections.abc import Sequence

import numpy as np

from extracter.reporting.squares import box_sums
from extracter.search.block_grid import locate
from extracter.search.search import Matches, SearchConfig

_CORNERS = np.array([[(0, 45, 115), (120, 40, 0)], [(150, 215, 255), (255, 220, 120)]], np.float32)
_GAP = 0.25  # of a reference's share of the way across, between it and the next


def patch_grid(height: int, width: int, config: SearchConfig) -> tuple[int, int]:
    """Rows and columns of search patches.

    Args:
        height, width: of the feature map: LR, or a reference at a quarter of its size, rounded up.
        config: patches of the search; k = 3s and p = s.

    Example:
        >>> patch_grid(41, 60, SearchConfig(6, 2, 2))
        (21, 30)
    """
    return config.count(config.padded(height)), config.count(config.padded(width))


def origin_map(
    matches: Matches, lr_size: tuple[int, int], ref_sizes: Sequence[tuple[int, int]], config: SearchConfig
) -> np.ndarray:
    """Colour each query patch by the place of its best match; `tinted` shows the same colours on a reference.

    Alignment moves a texture by up to 2s + 1 pixels from there, which is less than a patch and not shown.

    Args:
        matches: of one image (N = 1), for instance `Result.matches`.
        lr_size: height and width of LR.
        ref_sizes: of the references in the order of the search, in their own pixels, four times the feature map's.
        config: patches of the search, for instance `Result.search`; k = 3s and p = s.

    Returns:
        uint8, (rows, columns, 3): a pixel for each query, which covers 4s x 4s pixels of SR; `spread` enlarges it.

    Raises:
        ValueError: the matches are not of images of these sizes.

    Example:
        >>> same = Matches(torch.arange(12).view(1, 1, -1), torch.ones(1, 1, 12), 12)
        >>> origin_map(same, (3, 4), [(12, 16)], SearchConfig(3, 1, 1))[0, 0].tolist()
        [0, 45, 115]
    """
    grids, (number, row, column) = _located(matches, lr_size, ref_sizes, config)
    heights, widths = (np.array(lengths)[number] for lengths in zip(*grids, strict=True))
    return _colour(row / np.maximum(1, heights - 1), column / np.maximum(1, widths - 1), number, len(grids))


def origin_of(
    matches: Matches,
    lr_size: tuple[int, int],
    ref_sizes: Sequence[tuple[int, int]],
    config: SearchConfig,
    pixel: tuple[int, int],
) -> tuple[int, tuple[int, int]]:
    """Where the texture of one pixel of SR comes from.

    Args:
        matches, lr_size, ref_sizes, config: as of `origin_map`.
        pixel: row and column in SR.

    Returns:
        Number of the reference, and row and column of the middle of the matched patch, in the reference's pixels.
    """
    cell = 4 * config.stride
    _, places = _located(matches, lr_size, ref_sizes, config)
    number, row, column = (int(place[pixel[0] // cell, pixel[1] // cell]) for place in places)
    return number, (cell * row + cell // 2, cell * column + cell // 2)


def source_square(
    matches: Matches,
    lr_size: tuple[int, int],
    ref_sizes: Sequence[tuple[int, int]],
    config: SearchConfig,
    square: tuple[int, int, int],
) -> tuple[int, tuple[int, int, int]]:
    """The square of the references from which most textures of a square of SR come.

    Args:
        matches, lr_size, ref_sizes, config: as of `origin_map`.
        square: top, left and side in SR.

    Returns:
        Number of the reference; top, left and side in its pixels: as large as in SR, or what the reference allows.
    """
    cell = 4 * config.stride
    top, left, side = square
    grids, places = _located(matches, lr_size, ref_sizes, config)
    inside = np.s_[top // cell : -(-(top + side) // cell), left // cell : -(-(left + side) // cell)]
    numbers, rows, columns = (place[inside].ravel() for place in places)
    number = int(np.bincount(numbers).argmax())
    chosen = numbers == number
    found = np.zeros(grids[number])
    np.add.at(found, (rows[chosen], columns[chosen]), 1)
    side = min(side, *ref_sizes[number])
    span = [min(max(1, side // cell), length) for length in found.shape]
    boxes = box_sums(found, *span)
    corner = np.unravel_index(boxes.argmax(), boxes.shape)
    down, across = (min(cell * int(n), length - side) for n, length in zip(corner, ref_sizes[number], strict=True))
    return number, (down, across, side)


def tinted(reference: np.ndarray, number: int, count: int) -> np.ndarray:
    """A reference in grey under the colours of its places: the key to `origin_map`.

    Args:
        reference: uint8, (H, W, 3).
        number: its place among the references, from 0.
        count: how many references there are.

    Returns:
        uint8, (H, W, 3).
    """
    height, width = reference.shape[:2]
    across = np.linspace(0, 1, width)
    result = np.empty_like(reference)
    for top in range(0, height, 64):  # in strips, since colours are computed in floats
        part = reference[top : top + 64]
        down = np.arange(top, top + len(part))[:, None] / max(1, height - 1)
        colours = _colour(np.broadcast_to(down, part.shape[:2]), across, number, count)
        result[top : top + 64] = part.mean(2, keepdims=True) * 0.5 + colours * 0.5
    return result


def spread(origins: np.ndarray, height: int, width: int, cell: int) -> np.ndarray:
    """Enlarge a map so that each of its pixels covers a patch.

    Args:
        origins: uint8, (rows, columns, 3), of `origin_map`.
        height, width: of the result; at most `cell` times those of the map.
        cell: pixels of a patch: 4s on the grid of SR, s on that of LR.

    Returns:
        uint8, (height, width, 3).
    """
    return origins[np.arange(height) // cell][:, np.arange(width) // cell]


def _located(
    matches: Matches, lr_size: tuple[int, int], ref_sizes: Sequence[tuple[int, int]], config: SearchConfig
) -> tuple[list[tuple[int, int]], list[np.ndarray]]:
    """Grids of the references' keys; and reference, row and column of each query's best match, (rows, columns)."""
    rows, columns = patch_grid(*lr_size, config)
    grids = [patch_grid(-(-height // 4), -(-width // 4), config) for height, width in ref_sizes]
    if matches.indices.shape[2] != rows * columns or matches.keys != sum(down * across for down, across in grids):
        raise ValueError(
            f"{matches.indices.shape[2]} queries and {matches.keys} keys are not those of LR {lr_size} and "
            f"references {list(ref_sizes)}"
        )
    found = locate(matches.indices[0, 0].cpu(), grids)
    return grids, [x.view(rows, columns).numpy() for x in found]


def _colour(down: np.ndarray, across: np.ndarray, number: np.ndarray | int, count: int) -> np.ndarray:
    """Bilinear between the corners' colours: uint8, (rows, columns, 3); `down` and `across` lie in [0, 1]."""
    across = (number + across * (1 - _GAP)) / (count - _GAP)
    down, across = down[..., None], across[..., None]
    upper, lower = (left * (1 - across) + right * across for left, right in _CORNERS)
    return np.rint(upper * (1 - down) + lower * down).astype(np.uint8)
