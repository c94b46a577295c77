"""The edge that all networks share: checks, padding, references one or several, bicubic skip, clamp, crop."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from torch import Tensor, nn
from torch.nn import functional as F

from extracter.errors import UserError
from extracter.models.vgg import initialise_vgg
from extracter.search.copies import Place
from extracter.search.search import SearchConfig


class RefSR(nn.Module, ABC):
    """A network for reference-based x4 super-resolution; `super_resolve` is what each network computes.

    Args:
        bicubic_skip: the network predicts the difference from LR_up.
    """

    # Children that `torch.compile` leaves alone.
    uncompiled: frozenset[str] = frozenset()
    # Patches and memory of the search; None where a network does not search with them.
    search: SearchConfig | None = None
    # Whether a copy of each reference, registered to the input, is to be searched, too; see
    # `extracter.data.registration`. Whoever runs the network on images of a file adds the copies.
    registration = False
    # Whether the network cannot run without a reference, for which LR_up then stands in.
    needs_reference = True
    # Beginnings of the names of weights that training leaves as they are.
    frozen: tuple[str, ...] = ()
    # Those of them that are networks of others, and not counted among the system's weights.
    borrowed: tuple[str, ...] = ()
    # Learning rates of weights by the beginnings of their names, in shares of the others'.
    rates: Mapping[str, float] = MappingProxyType({})

    # Whether the textures of the last forward pass are kept for losses that compare with them.
    keeps_textures = False

    def __init__(self, bicubic_skip: bool):
        super().__init__()
        self.bicubic_skip = bicubic_skip

    @classmethod
    def from_pretrained(cls, model: str | Path) -> Self:
        """Load a network of this class, in evaluation mode, on the CPU.

        The method of the same name in `PyTorchModelHubMixin` would leave weights random that the file does not have.

        Args:
            model: a checkpoint folder; a file in one; or an id on the Hugging Face hub, `owner/name` or
                `owner/name@revision`.

        Raises:
            UserError: no such model, a damaged one, one of another class, or weights that do not fit its configuration.

        Example:
            >>> from extracter import Extracter
            >>> model = Extracter.from_pretrained("extracter/released/extracter-rec")
        """
        from extracter.models.checkpoint import load_model  # which loads networks of all classes
        from extracter.models.locate import model_folder

        network = load_model(model_folder(model), unnamed=cls.__name__)
        if not isinstance(network, cls):
            raise UserError(f"{model}: has a network of the class {type(network).__name__}; load it with that class")
        return network

    def forward(
        self,
        lr: Tensor,
        lr_up: Tensor,
        ref: Tensor | Sequence[Tensor],
        ref_du: Tensor | Sequence[Tensor],
        places: Sequence[Place] = (),
    ) -> Tensor:
        """Super-resolve; all images RGB in [-1, 1].

        Args:
            lr: N, 3, h, w, any size.
            lr_up: N, 3, 4h, 4w: bicubic enlargement of lr.
            ref: N, 3, H_ref, W_ref of any size, or several of them; all are searched together.
            ref_du: the same, brought down and up by 4.
            places: for networks with `registration`: of each reference that is a registered copy the row and column of
                `lr` at which it begins, None of the others; empty where there is no copy.

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
        size = (self.padded(height), self.padded(width))
        lr = extend(lr, size)
        lr_up = extend(lr_up, (4 * size[0], 4 * size[1]))
        refs, refs_du = ([self._extend_reference(x) for x in images] for images in (refs, refs_du))
        # In mixed precision, too, LR_up is added unrounded.
        sr = self.super_resolve(lr, lr_up, refs, refs_du, *([places] if any(places) else [])).to(lr_up.dtype)
        if self.bicubic_skip:
            sr = sr + lr_up
        return sr.clamp(-1, 1)[..., : 4 * height, : 4 * width]

    @abstractmethod
    def super_resolve(self, lr: Tensor, lr_up: Tensor, refs: list[Tensor], refs_du: list[Tensor]) -> Tensor:
        """SR, or its difference from LR_up where there is a bicubic skip; not yet clamped.

        Args:
            lr: N, 3, h, w; sides as `padded` gives them.
            lr_up: N, 3, 4h, 4w.
            refs: N, 3, 4 h_ref, 4 w_ref each; h_ref and w_ref likewise.
            refs_du: the same, brought down and up by 4.

        Returns:
            N, 3, 4h, 4w.
        """

    def initialise(self, weights: str, seed: int) -> None:
        """Fill DFE and matcher, where there are any, with ImageNet's weights or random ones; see `initialise_vgg`."""
        parts = dict(self.named_children())
        if "dfe" in parts:
            initialise_vgg(parts["dfe"], weights, seed)
        if "matcher" in parts:
            for network in parts["matcher"].children():
                initialise_vgg(network, weights, seed, layers="vgg16")

    def padded(self, side: int) -> int:
        """The least side of at least `side` LR pixels that the network can take."""
        return side

    def _extend_reference(self, image: Tensor) -> Tensor:
        sides = (-(-side // 4) for side in image.shape[-2:])
        return extend(image, tuple(4 * self.padded(side) for side in sides))

    def compile_parts(self, **options: Any) -> None:
        """Let `torch.compile`, with its options, fuse the convolutional parts; the search stays as it is."""
        for name, part in self.named_children():
            if name not in self.uncompiled:
                part.compile(**options)

    def zero_init_(self, last: nn.Conv2d) -> None:
        """Zero the last convolution if there is a bicubic skip, so that training starts at bicubic."""
        if self.bicubic_skip:
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)


def extend(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Repeat the last row and column up to `size`."""
    down, right = size[0] - image.shape[-2], size[1] - image.shape[-1]
    return F.pad(image, (0, right, 0, down), mode="replicate") if down or right else image


def count_parameters(model: nn.Module) -> int:
    """Number of weights and biases."""
    return sum(p.numel() for p in model.parameters())
