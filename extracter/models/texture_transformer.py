"""What Extracter and its baseline TTSR have in common: the DFE's features, search and transfer (section 3.2)."""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from extracter.models.refsr import RefSR
from extracter.models.vgg import VGG19
from extracter.search.copies import Place
from extracter.search.search import Matches, SearchConfig
from extracter.search.stm import SearchTransfer


class TextureTransformer(RefSR):
    """A network that takes textures from the reference by search and transfer on VGG19's features.

    Args:
        dfe_width: channels of the DFE's first level.
        textures: u, matches for each query.
        bicubic_skip: the network predicts the difference from LR_up.
        search: patches and strategy.
        constant_coverage, repeats, align: see `SearchTransfer`.
    """

    uncompiled = frozenset({"stm"})

    def __init__(
        self,
        dfe_width: int,
        textures: int,
        bicubic_skip: bool,
        search: SearchConfig,
        constant_coverage: bool = False,
        repeats: bool = False,
        align: bool = False,
    ):
        super().__init__(bicubic_skip)
        self.dfe = VGG19(depth=3, width=dfe_width)
        self.stm = SearchTransfer(textures, search, constant_coverage, repeats, align)
        self._textures: list[Tensor] = []

    @property
    def search(self) -> SearchConfig:
        """Patches, strategy and memory of the search; weights do not depend on it, so it may be replaced."""
        return self.stm.config

    @search.setter
    def search(self, config: SearchConfig) -> None:
        self.stm.config = config

    def padded(self, side: int) -> int:
        """The least side of at least `side` LR pixels that patches cover without remainder."""
        return self.search.padded(side)

    def super_resolve(
        self, lr: Tensor, lr_up: Tensor, refs: list[Tensor], refs_du: list[Tensor], places: Sequence[Place] = ()
    ) -> Tensor:
        """Search, transfer, and what each network makes of the textures; without references, of none."""
        if not refs:
            return self.reconstruct_alone(lr)
        # Rounded features would change which patches match: in mixed precision, too, all of this is float32.
        with torch.autocast(lr.device.type, enabled=False):
            query = self.dfe(lr_up)[2]
            keys = [self.dfe(x)[2] for x in refs_du]
            values = [self.dfe(x) for x in refs]
            matches, textures = self.stm(query, keys, values, (lr_up, refs_du), places)
        if self.keeps_textures:
            self._textures = [ranks[0] for ranks in textures]
        return self.reconstruct(lr, self.weigh(lr, matches), textures)

    def weigh(self, lr: Tensor, matches: Matches) -> Matches:
        """The matches with the weights that fusion multiplies their textures by; here their scores (Eq. 7)."""
        return matches

    def reconstruct_alone(self, lr: Tensor) -> Tensor:
        """`reconstruct` without a reference.

        Raises:
            ValueError: the network needs one.
        """
        raise ValueError(f"this {type(self).__name__} needs a reference; without one, pass LR_up as `ref` and `ref_du`")

    def take_textures(self) -> list[Tensor]:
        """The last forward pass's best textures, coarsest first; they are then forgotten. See `keeps_textures`."""
        textures, self._textures = self._textures, []
        return textures

    @abstractmethod
    def reconstruct(self, lr: Tensor, matches: Matches, textures: list[list[Tensor]]) -> Tensor:
        """The part after the search, by each network: N, 3, 4h, 4w, not yet clamped."""


def texture_channels(dfe_width: int) -> tuple[int, int, int]:
    """Channels of the DFE's levels, coarsest first."""
    return (4 * dfe_width, 2 * dfe_width, dfe_width)
