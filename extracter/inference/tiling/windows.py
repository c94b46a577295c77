"""Rectangles of cells, and pictures and feature maps cut out by them.

A cell is one pixel of LR, which is 4 x 4 pixels of LR_up, of the result or of a reference.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from extracter.errors import UserError
from extracter.memory import MIB

# Called with (done, total).
Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Inputs:
    """Images of one super-resolution: each (H, W, 3) uint8, uint16, or float32 in [-1, 1].

    Attributes:
        lr: h, w.
        lr_up: 4h, 4w, its bicubic enlargement.
        refs: references of any size; none for networks that need none.
        refs_du: the same, brought down and up by 4.
        places: of each reference that is a registered copy the row and column of `lr` at which it begins, None of the
            others; empty where there is no copy.
    """

    lr: np.ndarray
    lr_up: np.ndarray
    refs: Sequence[np.ndarray]
    refs_du: Sequence[np.ndarray]
    places: Sequence[tuple[int, int] | None] = ()


class InsufficientMemoryError(UserError):
    """The least strips or tiles do not fit the memory.

    Attributes:
        needed: bytes that they need, besides what the caller holds.
    """

    def __init__(self, needed: float):
        super().__init__(f"--memory: too little; {needed / MIB + 1:,.0f} MiB are needed besides images and weights")
        self.needed = needed


@dataclass(frozen=True)
class Window:
    """Half-open rectangle of cells."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def height(self) -> int:
        """Rows of cells."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Columns of cells."""
        return self.right - self.left

    def grow(self, cells: int, within: "Window", align: int = 1) -> "Window":
        """Wider by `cells` on each side, its edges rounded outwards to multiples of `align`, clipped to `within`."""
        return Window(
            max(within.top, (self.top - cells) // align * align),
            min(within.bottom, -(-(self.bottom + cells) // align) * align),
            max(within.left, (self.left - cells) // align * align),
            min(within.right, -(-(self.right + cells) // align) * align),
        )

    def meet(self, other: "Window") -> "Window":
        """What both have; they must meet."""
        return Window(
            max(self.top, other.top),
            min(self.bottom, other.bottom),
            max(self.left, other.left),
            min(self.right, other.right),
        )

    def split(self, height: int, width: int) -> list["Window"]:
        """Windows of at most `height` x `width` cells that cover this one, row by row."""
        return [
            Window(top, min(top + height, self.bottom), left, min(left + width, self.right))
            for top in range(self.top, self.bottom, height)
            for left in range(self.left, self.right, width)
        ]

    def in_blocks(self, stride: int) -> "Window":
        """The same rectangle counted in blocks of stride x stride cells; its edges are multiples of `stride`."""
        return Window(self.top // stride, self.bottom // stride, self.left // stride, self.right // stride)

    @property
    def slices(self) -> tuple[slice, slice]:
        """Its rows and columns in a map of everything."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def of(self, x: Tensor, outer: "Window", scale: int) -> Tensor:
        """The part of x, ..., rows, columns, that lies in this window; x covers `outer` at `scale` pixels a cell."""
        rows = slice(scale * (self.top - outer.top), scale * (self.bottom - outer.top))
        columns = slice(scale * (self.left - outer.left), scale * (self.right - outer.left))
        return x[..., rows, columns]


class Patch(NamedTuple):
    """A map N, C, scale height, scale width over a window."""

    x: Tensor
    window: Window
    scale: int

    def crop(self, window: Window) -> "Patch":
        """The part of it in a window inside its own."""
        return Patch(window.of(self.x, self.window, self.scale), window, self.scale)


# What the values of an array stand for: value / divisor - 1 lies in [-1, 1].
_DIVISORS = {np.dtype(np.uint8): 127.5, np.dtype(np.uint16): 32767.5}


class Picture:
    """An image in host memory, brought to tensors window by window.

    Args:
        pixels: (H, W, 3): uint8, uint16, or float32 in [-1, 1].
        scale: pixels of a cell's side: 1 for LR, else 4.
        padded: rows and columns of cells to cover; the last row and column of pixels repeat up to there.
        device: of the tensors.
    """

    def __init__(self, pixels: np.ndarray, scale: int, padded: tuple[int, int], device: torch.device):
        self.pixels = pixels
        self.scale = scale
        self.device = device
        self.whole = Window(0, padded[0], 0, padded[1])

    def cut(self, window: Window) -> Tensor:
        """Pixels of a window: float32, 1, 3, scale height, scale width, in [-1, 1]."""
        height, width = self.pixels.shape[:2]
        rows, columns = (
            np.arange(self.scale * first, self.scale * last)
            for first, last in ((window.top, window.bottom), (window.left, window.right))
        )
        part = self.pixels[self.scale * window.top : self.scale * window.bottom]
        part = part[:, self.scale * window.left : self.scale * window.right]
        if part.shape[:2] != (len(rows), len(columns)):
            part = self.pixels[rows.clip(max=height - 1)][:, columns.clip(max=width - 1)]
        return to_signed(part).to(self.device)


def to_signed(pixels: np.ndarray) -> Tensor:
    """(H, W, 3) of the kinds that `Picture` takes to float32 1, 3, H, W in [-1, 1]."""
    values = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], dtype=np.float32))
    divisor = _DIVISORS.get(pixels.dtype)
    return values if divisor is None else values / divisor - 1


def from_signed(image: Tensor, dtype: np.dtype) -> np.ndarray:
    """Float 1, 3, H, W in [-1, 1] to (H, W, 3): uint8 or uint16 rounded to the nearest, or float32 as it is."""
    values = image[0].movedim(0, -1).float().cpu().numpy()
    divisor = _DIVISORS.get(np.dtype(dtype))
    if divisor is None:
        return values
    return np.rint((values + 1) * divisor).clip(0, 2 * divisor).astype(dtype)
