"""VGG19, of which the deep feature extractor (DFE, section 3.1) and the perceptual loss use the first layers."""

from typing import Literal
from urllib.error import URLError

import torch
from torch import Tensor, nn

from extracter.errors import UserError

# Output channels of VGG19's convolutions, in multiples of those of the first; 0 is a max-pooling.
_LAYERS = (1, 1, 0, 2, 2, 0, 4, 4, 4, 4, 0, 8, 8, 8, 8, 0, 8, 8, 8, 8)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CAFFE_MEAN = (123.68, 116.779, 103.939)


class VGG19(nn.Module):
    """VGG19 up to the ReLU after the first convolution of stage `depth`, for images in [-1, 1].

    Args:
        depth: last stage; 3 ends at relu3_1 (the DFE), 5 at relu5_1 (the perceptual loss).
        width: channels of the first stage; 64 in the published network.
        whole_stage: continue to the last convolution of the stage, without its ReLU (conv5_4 for depth 5). It is an
            additional output.
    """

    def __init__(self, depth: int, width: int = 64, whole_stage: bool = False):
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        pools = 0
        for multiple in _LAYERS:
            if multiple:
                layers += [nn.Conv2d(channels, multiple * width, 3, padding=1), nn.ReLU(inplace=True)]
                channels = multiple * width
                if pools == depth - 1 and not whole_stage:
                    break
            elif pools == depth - 1:
                break
            else:
                layers.append(nn.MaxPool2d(2))
                pools += 1
        self.width = width
        self.whole_stage = whole_stage
        if whole_stage:
            layers.pop()
        # The indices equal those of torchvision's `features`, so that its weights can be loaded by name.
        self.features = nn.Sequential(*layers)
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1), persistent=False)

    def take_bytes_(self) -> None:
        """Normalise images for Caffe's weights: values from 0 to 255 minus the mean of ImageNet, not divided."""
        self.mean.copy_(torch.tensor(_CAFFE_MEAN).view(1, 3, 1, 1) / 255)
        self.std.fill_(1 / 255)

    def forward(self, image: Tensor, levels: int | None = None) -> list[Tensor]:
        """Compute the ReLU after the first convolution of each stage.

        Args:
            image: N, 3, H, W in [-1, 1].
            levels: number of stages to compute; None for all.

        Returns:
            `depth` or `levels` tensors: N, width, H, W; N, 2 width, H // 2, W // 2; ...
        """
        x = ((image + 1) / 2 - self.mean) / self.std
        outputs = []
        first = True
        for layer in self.features:
            x = layer(x)
            if first and isinstance(layer, nn.ReLU):
                outputs.append(x)
                first = False
                if len(outputs) == levels:
                    break
            first = first or isinstance(layer, nn.MaxPool2d)
        return [*outputs, x] if self.whole_stage else outputs


def initialise_vgg(network: VGG19, weights: str, seed: int, layers: Literal["vgg19", "vgg16"] = "vgg19") -> None:
    """Fill a VGG19 with ImageNet's weights or with seeded random weights.

    Args:
        network: changed in place.
        weights: `imagenet` (torchvision's IMAGENET1K_V1, downloaded once and verified by its hash) or `random`.
        seed: seed of the random weights.
        layers: network of ImageNet's weights; up to conv3_1 the two have the same layers.

    Raises:
        UserError: the weights cannot be downloaded.
    """
    if weights == "random":
        generator = torch.Generator().manual_seed(seed)
        for layer in network.features:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
                nn.init.zeros_(layer.bias)
        return
    from torchvision.models import VGG16_Weights, VGG19_Weights

    source = {"vgg19": VGG19_Weights, "vgg16": VGG16_Weights}[layers].IMAGENET1K_V1
    try:
        published = source.get_state_dict(check_hash=True)
    except (URLError, OSError, RuntimeError) as error:
        raise UserError(
            f"{layers.upper()}'s ImageNet weights cannot be downloaded from {source.url} ({error}); download "
            f"that file elsewhere and put it into {torch.hub.get_dir()}/checkpoints, or set `model.vgg_weights: random`"
        ) from None
    network.load_state_dict({name: published[name] for name in network.state_dict()})
