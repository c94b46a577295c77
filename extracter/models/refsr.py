"""What Extracter and its baseline TTSR have in common: features, search, padding to whole patches, bicubic skip."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from extracter.models.vgg import VGG19
from extracter.search.search import Matches, SearchConfig
from extracter.search.stm import SearchTransfer


class RefSR(nn.Module, ABC):
    """Reference-based x4 super-resolution with a texture transformer.

    Args:
        dfe_width: channels of the DFE's first level.
        textures: u, matches for each query.
        bicubic_skip: the network predicts the difference from LR_up.
        search: patches and strategy.
        constant_coverage, repeats: see `SearchTransfer`.
    """

    def __init__(
        self,
        dfe_width: int,
        textures: int,
        bicubic_skip: bool,
        search: SearchConfig,
        constant_coverage: bool = False,
        repeats: bool = False,
    ):
        super().__init__()
        self.dfe = VGG19(depth=3, width=dfe_width)
        self.stm = SearchTransfer(textures, search, constant_coverage, repeats)
        self.bicubic_skip = bicubic_skip

    @property
    def search(self) -> SearchConfig:
        """Patches, strategy and memory of the search; weights do not depend on it, so it may be replaced."""
        return self.stm.config

    @search.setter
    def search(self, config: SearchConfig) -> None:
        self.stm.config = config

    def forward(
        self, lr: Tensor, lr_up: Tensor, ref: Tensor | Sequence[Tensor], ref_du: Tensor | Sequence[Tensor]
    ) -> Tensor:
        """Super-resolve; all images RGB in [-1, 1].

        Args:
            lr: N, 3, h, w, any size.
            lr_up: N, 3, 4h, 4w: bicubic enlargement of lr.
            ref: N, 3, H_ref, W_ref of any size, or several of them; all are searched together.
            ref_du: the same, brought down and up by 4.

        Returns:
            N, 3, 4h, 4w in [-1, 1].

        Raises:
            ValueError: lr_up is not four times the size of lr, or a reference has not the size of its ref_du.
        """
        refs, refs_du = ([x] if isinstance(x, Tensor) else list(x) for x in (ref, ref_du))
        height, width = lr.shape[-2:]
        if lr_up.shape[-2:] != (4 * height, 4 * width):
            raise ValueError(f"lr_up is {tuple(lr_up.shape[-2:])}, four times lr is {(4 * height, 4 * width)}")
        if [x.shape for x in refs] != [x.shape for x in refs_du]:
            raise ValueError("each ref needs a ref_du of the same size; crop references to multiples of 4 first")
        size = (self.search.padded(height), self.search.padded(width))
        lr = _extend(lr, size)
        lr_up = _extend(lr_up, (4 * size[0], 4 * size[1]))
        refs, refs_du = ([self._extend_reference(x) for x in images] for images in (refs, refs_du))
        query = self.dfe(lr_up)[2]
        keys = [self.dfe(x)[2] for x in refs_du]
        values = [self.dfe(x) for x in refs]
        matches, textures = self.stm(query, keys, values)
        sr = self.reconstruct(lr, matches, textures)
        if self.bicubic_skip:
            sr = sr + lr_up
        return sr.clamp(-1, 1)[..., : 4 * height, : 4 * width]

    @abstractmethod
    def reconstruct(self, lr: Tensor, matches: Matches, textures: list[list[Tensor]]) -> Tensor:
        """The part behind the search, by each network: N, 3, 4h, 4w, not yet clamped."""

    def _extend_reference(self, image: Tensor) -> Tensor:
        sides = (-(-side // 4) for side in image.shape[-2:])
        return _extend(image, tuple(4 * self.search.padded(side) for side in sides))

    def compile_parts(self, **options: Any) -> None:
        """Let `torch.compile`, with its options, fuse the convolutional parts; the search stays as it is."""
        for name, part in self.named_children():
            if name != "stm":
                part.compile(**options)

    def zero_init_(self, last: nn.Conv2d) -> None:
        """Zero the last convolution if there is a bicubic skip, so that training starts at bicubic."""
        if self.bicubic_skip:
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)


def _extend(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Repeat the last row and column up to `size`."""
    down, right = size[0] - image.shape[-2], size[1] - image.shape[-1]
    return F.pad(image, (0, right, 0, down), mode="replicate") if down or right else image


def count_parameters(model: nn.Module) -> int:
    """Number of weights and biases."""
    return sum(p.numel() for p in model.parameters())


def texture_channels(dfe_width: int) -> tuple[int, int, int]:
    """Channels of the DFE's levels, coarsest first."""
    return (4 * dfe_width, 2 * dfe_width, dfe_width)
