"""TTSR (Yang et al., CVPR 2020), the baseline of the paper."""

from collections.abc import Sequence

from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from extracter.models.blocks import ShallowExtractor, conv1x1, conv3x3
from extracter.models.csfi import CSFI
from extracter.models.texture_transformer import TextureTransformer, texture_channels
from extracter.search.search import Matches, SearchConfig


class TTSR(TextureTransformer, PyTorchModelHubMixin, license="mit"):
    """TTSR. The defaults are the published configuration, with 6,729,603 weights.

    Its texture transformer uses one match for each query. It weighs the fused features by the scores, but not the
    textures.

    Args:
        features: channels of all layers.
        dfe_width: channels of the first level of the texture extractor; 64 in VGG19.
        blocks: residual blocks of the shallow extractor and of the three stages.
        bicubic_skip: add the bicubic enlargement to the output; not in its paper.
        kernel: side of a search patch, in pixels of the deepest features.
        stride: distance between search patches, in the same pixels.
        padding: width of the zero padding around the features, in the same pixels.
        memory: MiB for correlation scores; None for a default for the device.
        constant_coverage: see `SearchTransfer`; the published code has it.

    Example:
        >>> model = TTSR.from_pretrained("results/demo/checkpoints/ttsr")
        >>> sr = model(lr, lr_up, ref, ref_du)  # N, 3, h, w and N, 3, 4h, 4w, all in [-1, 1]
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
        """Integrate the textures and map the merged features to RGB: N, 3, 4h, 4w."""
        soft = self.stm.soft_attention(matches, (lr.shape[-2], lr.shape[-1]))
        x_tt, _ = self.csfi(self.ife(lr), textures, soft)
        return self.tail(x_tt)
