"""The terms of Eq. 8 (section 3.5). All take N, 3, H, W images in [-1, 1] and return a scalar."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from extracter.models.gde import gradient_density
from extracter.models.vgg import VGG19
from extracter.training.distributed import mean_over_processes, norm_over_processes, part_of, process_count


def reconstruction_loss(sr: Tensor, hr: Tensor) -> Tensor:
    """L_rec: mean absolute difference."""
    return F.l1_loss(sr, hr)


def perceptual_loss(vgg: VGG19, sr: Tensor, hr: Tensor, norm: str = "l1") -> Tensor:
    """L_perc: distance of the deepest features, relu5_1 for `VGG19(depth=5)`.

    Args:
        vgg: fixed feature extractor.
        sr: super-resolved images.
        hr: originals.
        norm: `l1` (the paper) or `mse` (the authors' code), means over all features; `norm`: the Euclidean norm of
            the batch's difference (C2-Matching).
    """
    with torch.no_grad():
        target = vgg(hr)[-1].float()
    features = vgg(sr)[-1].float()
    if norm == "norm":
        return norm_over_processes(features - target)
    return (F.l1_loss if norm == "l1" else F.mse_loss)(features, target)


def gradient_loss(sr: Tensor, hr: Tensor) -> Tensor:
    """L_grad: mean absolute difference of the gradient densities."""
    return F.l1_loss(gradient_density(sr), gradient_density(hr))


def transferal_loss(extractor: VGG19, sr: Tensor, textures: Sequence[Tensor]) -> Tensor:
    """TTSR's transferal perceptual loss: mean squared difference of SR's features and the transferred ones.

    Args:
        extractor: the network's own; its weights are taken as they are, and get no gradient through SR.
        sr: super-resolved images.
        textures: transferred from the reference, coarsest first, as the levels of `extractor`; they do carry one.
    """
    levels = frozen(extractor)(sr)
    terms = [F.mse_loss(level, texture) for level, texture in zip(reversed(levels), textures, strict=True)]
    return sum(terms[1:], terms[0]) / len(terms)


def texture_loss(extractor: VGG19, sr: Tensor, textures: Sequence[Tensor]) -> Tensor:
    """SRNTT's texture loss: mean squared difference of the Gram matrices of SR's features and the swapped ones.

    Args:
        extractor: fixed feature extractor.
        sr: super-resolved images.
        textures: swapped from the reference, coarsest first, as the levels of `extractor`.
    """
    levels = extractor(sr)
    terms = [
        F.mse_loss(gram(level), gram(texture)) / (4 * level[0].numel() ** 2)
        for level, texture in zip(reversed(levels), textures, strict=True)
    ]
    return sum(terms[1:], terms[0]) / len(terms)


def gram(x: Tensor) -> Tensor:
    """Inner products of the channels over all pixels, N, C, C, of N, C, H, W."""
    flat = x.flatten(2).float()
    return flat @ flat.mT


def relativistic_loss(wanted: Tensor, other: Tensor) -> Tensor:
    """Cross entropy of "the wanted images look more real than the others do on average" and of the reverse.

    Args:
        wanted: scores N, 1 of the images that should look real: HR for the critic, SR for the network.
        other: scores of the others.
    """
    above, below = wanted - mean_over_processes(other.mean()), other - mean_over_processes(wanted.mean())
    return (F.softplus(-above).mean() + F.softplus(below).mean()) / 2


def frozen(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """A module whose weights get no gradient, which saves computing it; its input does."""
    weights = {name: value.detach() for name, value in module.named_parameters()}
    return lambda x: torch.func.functional_call(module, weights, (x,))


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
        generator: draws the place between SR and HR, uniformly for each image of all processes; on the CPU.
    """
    sr = sr.detach()
    count = len(hr) * process_count()
    share = torch.rand(count, 1, 1, 1, generator=generator)[part_of(count)]
    if hr.is_cuda:  # from pinned memory the host need not wait for the copy
        share = share.pin_memory()
    share = share.to(hr, non_blocking=True)
    between = (share * hr + (1 - share) * sr).requires_grad_()
    # A gradient of a gradient of rounded numbers would be too rough: this part is float32 in every precision.
    with torch.autocast(hr.device.type, enabled=False):
        (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    excess = slope.flatten(1).norm(2, dim=1) - 1
    return critic(sr).mean() - critic(hr).mean() + penalty * excess.square().mean()
