"""Match points in photographs of one scene by SIFT features, mutual nearest neighbours and MAGSAC.

The settings are those with which the test set `views` was graded: 2,500 RootSIFT features at a long side of 800 pixels,
ratio test at 0.85, and a fundamental matrix and a homography with thresholds of 1.5 and 3 pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from PIL import Image

from extracter.data.parallel import ordered_map
from extracter.data.sift import mutual_neighbours, root_sift
from extracter.data.view_pairs import resize_to
from extracter.errors import UserError
from extracter.files import write_csv

NAME = "matches.csv"
LONG_SIDE = 800
FEATURES = 2500
MIN_INLIERS = 30
# Maximum number of points stored for a pair of photographs, spread over the first one.
POINTS = 48
CELLS = 12
UNITS = 10_000


@dataclass(frozen=True)
class Match:
    """Two photographs of one scene with their matched points.

    Attributes:
        first: path of a photograph without suffix.
        second: path of the other photograph without suffix.
        inliers: number of matched points that agree with the geometry, including those not stored.
        points: float64 (N, 4): x and y in `first`, x and y in `second`, as fractions of width and height.
    """

    first: str
    second: str
    inliers: int
    points: np.ndarray

    def reversed(self) -> "Match":
        """The same match seen from the second photograph."""
        return Match(self.second, self.first, self.inliers, self.points[:, [2, 3, 0, 1]])


def describe(photograph: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """RootSIFT features of a photograph at a long side of 800 pixels.

    Args:
        photograph: 8-bit RGB.

    Returns:
        positions (N, 2), in pixels of the resized photograph scaled by its long side to fractions of 800, and
        descriptors (N, 128) of unit length, both float32.
    """
    return root_sift(np.asarray(resize_to(photograph, LONG_SIDE).convert("L")), nfeatures=FEATURES)


def _inliers(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Which positions agree with the fundamental matrix or the homography, whichever fits more; bool (N,)."""
    masks = [np.zeros(len(first), bool)]
    for estimate, threshold in ((cv2.findFundamentalMat, 1.5), (cv2.findHomography, 3.0)):
        try:
            _, mask = estimate(first, second, cv2.USAC_MAGSAC, threshold, confidence=0.9999, maxIters=10_000)
        except cv2.error:  # too few distinct points
            continue
        if mask is not None:
            masks.append(mask.ravel().astype(bool))
    return max(masks, key=np.count_nonzero)


def _spread(points: np.ndarray) -> np.ndarray:
    """Up to 48 points spread over the first photograph: one from each cell of a grid, then a second one, and so on."""
    cell = np.minimum((points[:, :2] * CELLS).astype(int), CELLS - 1) @ (CELLS, 1)
    turn = pd.Series(cell).groupby(cell).cumcount().to_numpy()
    return points[np.sort(np.argsort(turn, kind="stable")[:POINTS])]


def match(
    first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray], shapes: list[tuple[int, int]]
) -> tuple[int, np.ndarray]:
    """Match the features of two photographs.

    Args:
        first: positions and descriptors, as `describe` gives them.
        second: those of the other photograph.
        shapes: width and height of both photographs.

    Returns:
        the number of inliers, and up to 48 of them as in `Match.points`.
    """
    if min(len(first[0]), len(second[0])) < MIN_INLIERS:
        return 0, np.zeros((0, 4))
    indices = mutual_neighbours(first[1], second[1])
    if len(indices) < MIN_INLIERS:
        return 0, np.zeros((0, 4))
    a, b = first[0][indices[:, 0]], second[0][indices[:, 1]]
    mask = _inliers(a, b)
    scales = [np.array(shape) / max(shape) * LONG_SIDE for shape in shapes]
    points = np.concatenate([a[mask] / scales[0], b[mask] / scales[1]], 1).clip(0, 1)
    return len(points), _spread(points.astype(np.float64))


def match_scenes(scenes: dict[str, list[str]], read: Callable[[str], Image.Image]) -> list[Match]:
    """Match each photograph of a scene with each other one of it.

    Args:
        scenes: names of photographs by scene.
        read: gives a photograph by its name.

    Returns:
        pairs with at least 30 inliers, in the order of the names.
    """
    names = sorted(name for photographs in scenes.values() for name in photographs)

    def features_of(name: str) -> tuple[tuple[int, int], tuple[np.ndarray, np.ndarray]]:
        photograph = read(name)
        return photograph.size, describe(photograph)

    known = dict(zip(names, ordered_map(features_of, names, "find features"), strict=True))
    couples = [pair for photographs in scenes.values() for pair in combinations(sorted(photographs), 2)]

    def match_couple(couple: tuple[str, str]) -> Match:
        (shape_a, a), (shape_b, b) = known[couple[0]], known[couple[1]]
        return Match(*couple, *match(a, b, [shape_a, shape_b]))

    found = ordered_map(match_couple, sorted(couples), "match photographs")
    return [one for one in found if one.inliers >= MIN_INLIERS]


def write(path: Path, matches: list[Match]) -> None:
    """Write matches as CSV; coordinates in ten-thousandths of width and height."""
    rows = [
        {
            "first": one.first,
            "second": one.second,
            "inliers": one.inliers,
            "points": ";".join(" ".join(map(str, point)) for point in np.rint(one.points * UNITS).astype(int)),
        }
        for one in matches
    ]
    write_csv(path, rows, ["first", "second", "inliers", "points"])


def read(path: Path) -> list[Match]:
    """Read what `write` wrote.

    Raises:
        UserError: the file is damaged.
    """
    try:
        table = pd.read_csv(path)
        return [
            Match(
                row.first,
                row.second,
                int(row.inliers),
                np.array([point.split() for point in row.points.split(";")], np.float64).reshape(-1, 4) / UNITS,
            )
            for row in table.itertuples()
        ]
    except (ValueError, AttributeError) as error:
        raise UserError(f"{path}: not a list of matches ({error}); delete it and run the workflow again") from None
