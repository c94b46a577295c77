"""What a system's second phase minimises: the terms that its row in the table of families gives a weight."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from torch import Tensor, nn

from extracter.families import FAMILIES, Losses
from extracter.models.refsr import RefSR
from extracter.models.vgg import VGG19, initialise_vgg
from extracter.presets import Loss
from extracter.training import losses

# The terms besides the reconstruction loss, by the names that the training log has.
TERMS = ("perc", "grad", "transferal", "texture", "adv")


def losses_of(family: str, phase: str, block: Loss | None) -> Losses:
    """The weights of a family's phase; those of Eq. 8 come from the parameters.

    Args:
        family: a key of `FAMILIES`.
        phase: rec or full.
        block: `loss` of the parameters, of which the first phase needs `rec` alone.
    """
    if phase == "rec":
        return Losses(rec=block.rec)
    names = ("rec", "perc", "perc_norm", "grad", "adv", "gradient_penalty")
    return FAMILIES[family].losses or Losses(**{name: getattr(block, name) for name in names})


class Objective:
    """The losses of the second phase and the VGG19 that some of them compare with.

    Args:
        weights: of the terms; those of weight 0 are not computed.
        network: in training; told to keep its textures where a term compares with them.
        vgg_weights: imagenet or random, of VGG19.
        vgg_width: channels of its first level.
        seed: of random weights.
    """

    def __init__(self, weights: Losses, network: RefSR, vgg_weights: str, vgg_width: int, seed: int):
        self.weights, self.network = weights, network
        network.keeps_textures = bool(weights.transferal or weights.texture)
        self.vgg = None
        if weights.perc:
            self.vgg = VGG19(depth=5, width=vgg_width, whole_stage=weights.perc_layer == "conv5_4")
            initialise_vgg(self.vgg, vgg_weights, seed)
            self.vgg.requires_grad_(False).eval()

    def measure(
        self, sr: Tensor, hr: Tensor, critic: nn.Module, autocast: Callable[[], AbstractContextManager] = nullcontext
    ) -> dict[str, Tensor]:
        """The terms that count, by name; each a scalar.

        Args:
            sr: what the network has just given.
            hr: originals.
            critic: maps images to scores, higher being more real; its weights get no gradient here.
            autocast: the training's precision, in which VGG19 and the critic compute. Differences of pixels, gradient
                densities and textures are always float32.
        """
        weights, measured = self.weights, {}
        if self.vgg is not None:
            with autocast():
                measured["perc"] = losses.perceptual_loss(self.vgg, sr, hr, weights.perc_norm)
        if weights.grad:
            measured["grad"] = losses.gradient_loss(sr, hr)
        if self.network.keeps_textures:
            textures = self.network.take_textures()
            if weights.transferal:
                measured["transferal"] = losses.transferal_loss(self.network.dfe, sr, textures)
            if weights.texture:
                measured["texture"] = losses.texture_loss(self.network.dfe, sr, textures)
        if weights.adv:
            judge = losses.frozen(critic)
            with autocast():
                measured["adv"] = (
                    losses.relativistic_loss(judge(sr), judge(hr))
                    if weights.gan == "relativistic"
                    else losses.adversarial_loss(judge, sr)
                )
        return measured

    def total(self, measured: dict[str, Tensor]) -> Tensor:
        """The weighted sum of `rec` and the terms."""
        total = self.weights.rec * measured["rec"]
        for name in TERMS:
            if name in measured:
                total = total + getattr(self.weights, name) * measured[name]
        return total
