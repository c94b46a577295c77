"""The terms of Eq. 8 (section 3.5). All take N, 3, H, W images in [-1, 1] and return a scalar."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from extracter.models.gde import gradient_density
from extracter.models.vgg import VGG19


def reconstruction_loss(sr: Tensor, hr: Tensor) -> Tensor:
    """L_rec: mean absolute difference."""
    return F.l1_loss(sr, hr)


def perceptual_loss(vgg: VGG19, sr: Tensor, hr: Tensor, norm: str = "l1") -> Tensor:
    """L_perc: distance of the deepest features, relu5_1 for `VGG19(depth=5)`.

    Args:
        vgg: fixed feature extractor.
        sr: super-resolved images.
        hr: originals.
        norm: `l1` (the paper) or `mse` (the authors' code); both are means over all features.
    """
    distance = F.l1_loss if norm == "l1" else F.mse_loss
    with torch.no_grad():
        target = vgg(hr)[-1]
    return distance(vgg(sr)[-1], target)


def gradient_loss(sr: Tensor, hr: Tensor) -> Tensor:
    """L_grad: mean absolute difference of the gradient densities."""
    return F.l1_loss(gradient_density(sr), gradient_density(hr))


def adversarial_loss(critic: Callable[[Tensor], Tensor], sr: Tensor) -> Tensor:
    """L_G = -E[D(SR)]."""
    return -critic(sr).mean()


def critic_loss(
    critic: Callable[[Tensor], Tensor], sr: Tensor, hr: Tensor, penalty: float, generator: torch.Generator
) -> Tensor:
    """L_D = E[D(SR)] - E[D(HR)] + penalty * E[(||grad D(x)||_2 - 1)^2], x between SR and HR (WGAN-GP).

    Args:
        critic: maps N, 3, H, W to N, 1.
        sr: super-resolved images; no gradient flows into them.
        hr: originals.
        penalty: lambda, 10 in the paper's source.
        generator: draws the place between SR and HR, uniformly for each image; on the CPU.
    """
    sr = sr.detach()
    share = torch.rand(len(hr), 1, 1, 1, generator=generator).to(hr)
    between = (share * hr + (1 - share) * sr).requires_grad_()
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    excess = slope.flatten(1).norm(2, dim=1) - 1
    return critic(sr).mean() - critic(hr).mean() + penalty * excess.square().mean()
