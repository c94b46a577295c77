"""DFE features of a picture, window by window."""

import torch
from torch import Tensor

from extracter.inference.tiling.windows import Picture, Window
from extracter.models.vgg import VGG19

# The DFE sees 10 pixels (1 + 1 at full size, 2 + 2 at half, 4 at a quarter) on each side of a cell: three cells.
REACH = 3
# Cells of a side that are computed at once; a multiple of 1, 2, 3 and 4, the strides of usual searches.
SIDE = 60
# Channels of the levels, in multiples of the DFE's width, and pixels of a cell's side; finest first.
LEVELS = ((1, 4), (2, 2), (4, 1))


class Features:
    """DFE1..3 of one picture.

    Args:
        dfe: the network's feature extractor.
        picture: LR_up, a Ref or a Ref_du, 4 pixels a cell.
    """

    side = SIDE  # cells of a side that are computed at once

    def __init__(self, dfe: VGG19, picture: Picture):
        self.dfe = dfe
        self.picture = picture
        self.whole = picture.whole
        self.width = dfe.width

    def channels(self, level: int) -> int:
        """Of a level, finest 0."""
        return LEVELS[level][0] * self.width

    def cut(self, window: Window, level: int) -> Tensor:
        """Features of a window at one level, as those of the whole picture would be.

        Args:
            window: inside the picture.
            level: 0 to 2, finest first.

        Returns:
            1, C, scale height, scale width; scale is 4, 2 or 1.
        """
        parts = window.split(self.side, self.side)
        # The network after the search may run in less precision; what is searched and copied may not.
        with torch.autocast(self.picture.device.type, enabled=False):
            if len(parts) == 1:
                return self._compute(window, level)
            scale = LEVELS[level][1]
            shape = (1, self.channels(level), scale * window.height, scale * window.width)
            result = torch.empty(shape, device=self.picture.device)
            for part in parts:
                part.of(result, window, scale).copy_(self._compute(part, level))
            return result

    def _compute(self, window: Window, level: int) -> Tensor:
        outer = window.grow(REACH, self.whole)
        # At the picture's own edges zero padding is what the whole has, too. Elsewhere it corrupts only the margin,
        # which is cropped.
        levels = self.dfe(self.picture.cut(outer), levels=level + 1)
        return window.of(levels[level], outer, LEVELS[level][1])


def bytes_at_once(width: int) -> float:
    """Memory of `Features._compute` for one part: four full-size maps and what convolutions copy."""
    return 24 * 16 * width * (SIDE + 2 * REACH) ** 2
