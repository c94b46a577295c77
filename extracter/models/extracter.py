"""The network of the paper (section 3, Fig. 1)."""

from collections.abc import Sequence
from typing import Literal

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn
from torch.nn import functional as F

from extracter.models.blocks import ShallowExtractor, conv1x1, conv3x3
from extracter.models.csfi import CSFI
from extracter.models.gate import Gate
from extracter.models.gde import GDE, Gradient
from extracter.models.texture_transformer import TextureTransformer, texture_channels
from extracter.search.search import Matches, SearchConfig


class Extracter(TextureTransformer, PyTorchModelHubMixin, license="mit"):
    """EXTRACTER; the defaults are the paper's configuration, 9,315,203 weights.

    Args:
        features: channels throughout.
        dfe_width: channels of the DFE's first level; 64 is VGG19's.
        ife_blocks: residual blocks of IFE and GFE.
        csfi_blocks: residual blocks of CSFI's branches in its three stages.
        gde_blocks: residual blocks of GDE's three levels; none: without GDE, for ablations.
        textures: u, matches fused for each query.
        bicubic_skip: predict the difference from bicubic (not in the paper).
        kernel: side of a search patch in pixels of the deepest features.
        stride: of the patches.
        padding: of the patches.
        strategy: `two_stage` (Eq. 5) or `direct` (Eq. 4).
        memory: MiB for correlation scores; None sizes it from the device.
        gfe_blocks: residual blocks of GFE, where they are not those of IFE.
        gde_closing, gradient: see `GDE`; the defaults are ours, other values those of the authors' released networks.
        constant_coverage, repeats: see `SearchTransfer`; likewise.
        align: move each match by whole pixels to where the images agree best (not in the paper).
        gate: weigh matches by learned trust in place of their scores (not in the paper); needs `align`.
        trust, idle: see `Gate`; they need `gate` (not in the paper).
        registration: search a registered copy of each reference, too (not in the paper); see `RefSR.registration`.

    Raises:
        ValueError: `gate` without `align`.
    """

    def __init__(
        self,
        features: int = 64,
        dfe_width: int = 64,
        ife_blocks: int = 4,
        csfi_blocks: Sequence[int] = (16, 8, 4),
        gde_blocks: Sequence[int] = (9, 9, 9),
        textures: int = 3,
        bicubic_skip: bool = False,
        kernel: int = 6,
        stride: int = 2,
        padding: int = 2,
        strategy: Literal["two_stage", "direct"] = "two_stage",
        memory: float | None = None,
        gfe_blocks: int | None = None,
        gde_closing: bool = True,
        gradient: Gradient = "unit",
        constant_coverage: bool = False,
        repeats: bool = False,
        align: bool = False,
        gate: bool = False,
        trust: Sequence[float] | None = None,
        idle: Sequence[float] | None = None,
        registration: bool = False,
    ):
        if gate and not align:
            raise ValueError("the gate weighs matches by what alignment finds: `gate` needs `align`")
        search = SearchConfig(kernel, stride, padding, strategy, memory=memory)
        super().__init__(dfe_width, textures, bicubic_skip, search, constant_coverage, repeats, align)
        self.registration = registration
        self.ife = ShallowExtractor(features, ife_blocks)
        self.csfi = CSFI(features, csfi_blocks, texture_channels(dfe_width), textures)
        gfe_blocks = ife_blocks if gfe_blocks is None else gfe_blocks
        self.gde = GDE(features, gfe_blocks, gde_blocks, gde_closing, gradient) if gde_blocks else None
        self.fuse = conv3x3(2 * features, features) if gde_blocks else None
        self.gate = Gate(textures, trust=trust, idle=idle) if gate else None
        self.needs_reference = self.gate is None or self.gate.trust is None
        self.tail = nn.Sequential(conv3x3(features, features // 2), conv1x1(features // 2, 3))
        self.zero_init_(self.tail[-1])

    def weigh(self, lr: Tensor, matches: Matches) -> Matches:
        """The matches with the gate's weights in place of their scores, where there is a gate."""
        return matches if self.gate is None else matches._replace(scores=self.gate(lr, matches, self.search))

    def reconstruct(self, lr: Tensor, matches: Matches, textures: list[list[Tensor]]) -> Tensor:
        """SR = Conv(Concat(x_3g, x_TT)), N, 3, 4h, 4w (section 3.4)."""
        soft = self.stm.soft_attention(matches, (lr.shape[-2], lr.shape[-1]))
        return self._restore(lr, textures, soft)

    def reconstruct_alone(self, lr: Tensor) -> Tensor:
        """`reconstruct` with the weights `idle`, as where the gate finds every reference useless."""
        if self.needs_reference:
            return super().reconstruct_alone(lr)
        return self._restore(lr, None, self.gate.idle.flatten())

    def _restore(self, lr: Tensor, textures: list[list[Tensor]] | None, soft: Sequence[Tensor] | Tensor) -> Tensor:
        x_tt, synthesised = self.csfi(self.ife(lr), textures, soft)
        if self.gde is not None:
            x_3g = self.gde(lr, synthesised)
            x_tt = F.relu(self.fuse(torch.cat((x_3g, x_tt), 1)), inplace=True)
        return self.tail(x_tt)
