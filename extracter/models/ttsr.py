"""The baseline of the paper's tables: TTSR (Yang et al., CVPR 2020)."""

from collections.abc import Sequence

from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from extracter.models.blocks import ShallowExtractor, conv1x1, conv3x3
from extracter.models.csfi import CSFI
from extracter.models.texture_transformer import TextureTransformer, texture_channels
from extracter.search.search import Matches, SearchConfig


class TTSR(TextureTransformer, PyTorchModelHubMixin, license="mit"):
    """TTSR; the defaults are its published configuration, 6,729,603 weights.

    Its texture transformer keeps one match for each query, and weighs the fused features but not the textures.

    Args:
        features: channels throughout.
        dfe_width: channels of the first level of its texture extractor; 64 is VGG19's.
        blocks: residual blocks of the shallow extractor and of the three stages.
        bicubic_skip: predict the difference from bicubic (not in its paper).
        kernel: side of a search patch in pixels of the deepest features.
        stride: of the patches.
        padding: of the patches.
        memory: MiB for correlation scores; None sizes it from the device.
        constant_coverage: see `SearchTransfer`; its published code has it.
    """

    def __init__(
        self,
        features: int = 64,
        dfe_width: int = 64,
        blocks: Sequence[int] = (16, 16, 8, 4),
        bicubic_skip: bool = False,
        kernel: int = 3,
        stride: int = 1,
        padding: int = 1,
        memory: float | None = None,
        constant_coverage: bool = False,
    ):
        search = SearchConfig(kernel, stride, padding, "direct", memory=memory)
        super().__init__(dfe_width, 1, bicubic_skip, search, constant_coverage)
        self.gde = None
        self.ife = ShallowExtractor(features, blocks[0])
        self.csfi = CSFI(features, blocks[1:], texture_channels(dfe_width), 1, weigh=False)
        self.tail = nn.Sequential(conv3x3(features, features // 2), conv1x1(features // 2, 3))
        self.zero_init_(self.tail[-1])

    def reconstruct(self, lr: Tensor, matches: Matches, textures: list[list[Tensor]]) -> Tensor:
        """The merged features, brought to RGB: N, 3, 4h, 4w."""
        soft = self.stm.soft_attention(matches, (lr.shape[-2], lr.shape[-1]))
        x_tt, _ = self.csfi(self.ife(lr), textures, soft)
        return self.tail(x_tt)
