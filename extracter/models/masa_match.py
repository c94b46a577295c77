"""Matching of MASA-SR (Lu et al., CVPR 2021): blocks coarsely, then the pixels of each block finely."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

BLOCK = 8  # side of a block of LR pixels, for each of which a region of the reference is chosen
_REGION = 1.5  # half a region's side, in the reference's share of a block
DILATIONS = (1, 2, 3)
_AT_ONCE = 16  # blocks


def warp(query: Tensor, key: Tensor, values: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Match each block of LR coarsely to a region of the reference, each pixel within it finely, and copy textures.

    Args:
        query: features of LR, N, C, h, w; h and w multiples of 8.
        key: of the reference at a quarter of its size, N, C, h_ref, w_ref.
        values: of the reference, N, C, s h_ref, s w_ref for s = 4, 2, 1.

    Returns:
        The score of the coarse match of each block, N, blocks down, blocks across; and textures, N, C, s h, s w for
        s = 4, 2, 1, weighted with the scores of the fine matches.
    """
    down, across = query.shape[-2] // BLOCK, query.shape[-1] // BLOCK
    blocks = cut_blocks(with_margin(query))  # N, B, C, 10, 10
    with torch.no_grad():
        score, centre = _coarse(blocks, key)
    sides = (key.shape[-2], key.shape[-1])
    height, width = region_size(sides, (down, across))
    top, left = region_corner(centre, sides, (height, width))

    # Some blocks at a time, except for gradients, which need all: patches take many times what they are copied from.
    step = blocks.shape[1] if torch.is_grad_enabled() else _AT_ONCE
    parts = [slice(first, first + step) for first in range(0, blocks.shape[1], step)]

    def regions(x: Tensor, scale: int, part: slice) -> Tensor:
        return _cut_regions(x, scale * top[:, part], scale * left[:, part], scale * height, scale * width)

    found = [fine_matches(blocks[:, part].flatten(0, 1), regions(key, 1, part)) for part in parts]
    textures = []
    for value, scale in zip(values, (4, 2, 1), strict=True):
        copied = [
            copy_patches(regions(value, scale, part), chosen, fine, scale).unflatten(0, (len(query), -1))
            for part, (fine, chosen) in zip(parts, found, strict=True)
        ]  # N, blocks, C, 8 s, 8 s
        whole = torch.cat(copied, 1).unflatten(1, (down, across)).permute(0, 3, 1, 4, 2, 5)
        textures.append(whole.flatten(4, 5).flatten(2, 3))
    return score.unflatten(1, (down, across)), textures


def compared_pairs(height: int, width: int) -> list[tuple[int, int]]:
    """Queries and keys of the coarse and of the fine matches, for LR and a reference of four times its size."""
    blocks = (height // BLOCK) * (width // BLOCK)
    sides = [2 * int(side // (2 * (side // BLOCK)) * _REGION) + 1 for side in (height, width)]
    return [(blocks, height * width), (height * width, sides[0] * sides[1])]


def region_size(sides: tuple[int, int], counts: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the region that a block searches.

    Args:
        sides: of the reference's features at a quarter of its size.
        counts: of LR's blocks, down and across.
    """
    height, width = (
        min(2 * int(side // (2 * count) * _REGION) + 3, side) for side, count in zip(sides, counts, strict=True)
    )
    return height, width


def region_corner(centre: Tensor, sides: tuple[int, int], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """First row and first column of regions of one size around pixels, by their index; moved inside the reference."""
    top = (centre // sides[1] - size[0] // 2).clamp(0, sides[0] - size[0])
    left = (centre % sides[1] - size[1] // 2).clamp(0, sides[1] - size[1])
    return top, left


def with_margin(x: Tensor) -> Tensor:
    """A margin of one pixel that repeats the edge."""
    # By slices, since `pad`'s gradient is not deterministic on CUDA.
    x = torch.cat((x[:, :, :1], x, x[:, :, -1:]), 2)
    return torch.cat((x[..., :1], x, x[..., -1:]), 3)


def cut_blocks(x: Tensor) -> Tensor:
    """Blocks with a margin of one pixel, N, B, C, 10, 10, of a map with such a margin."""
    return x.unfold(2, BLOCK + 2, BLOCK).unfold(3, BLOCK + 2, BLOCK).permute(0, 2, 3, 1, 4, 5).flatten(1, 2)


def describe_middles(blocks: Tensor) -> list[Tensor]:
    """The middle of each block by three sizes of neighbourhood: N, B, 9 C each, of length 1."""
    middle = (BLOCK + 2) // 2
    around = [slice(middle - d, middle + d + 1, d) for d in DILATIONS]
    return [F.normalize(blocks[..., part, part].flatten(2), dim=2) for part in around]


def _coarse(blocks: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
    """Best pixel of the key for the middle of each block, by three sizes of neighbourhood: scores and indices, N, B."""
    total: Tensor | float = 0.0
    for dilation, queries in zip(DILATIONS, describe_middles(blocks), strict=True):
        keys = F.normalize(F.unfold(key, 3, dilation=dilation, padding=dilation), dim=1)
        total = total + queries @ keys
    best = total.max(2)
    return best.values, best.indices


def _cut_regions(x: Tensor, top: Tensor, left: Tensor, height: int, width: int) -> Tensor:
    """Regions of one size, N B, C, height, width, of N, C, H, W; top and left are N, B."""
    rows = top.unsqueeze(2) + torch.arange(height, device=x.device)  # N, B, height
    columns = left.unsqueeze(2) + torch.arange(width, device=x.device)
    batch, count = top.shape
    pixels = (rows.unsqueeze(3) * x.shape[3] + columns.unsqueeze(2)).flatten(1)  # N, B height width
    cut = x.flatten(2).gather(2, pixels.unsqueeze(1).expand(-1, x.shape[1], -1))
    return cut.view(batch, -1, count, height, width).transpose(1, 2).flatten(0, 1)


def fine_matches(blocks: Tensor, regions: Tensor) -> tuple[Tensor, Tensor]:
    """Best 3 x 3 patch of a block's region for each of its pixels: scores (differentiable) and indices, N B, 64."""
    queries = F.normalize(F.unfold(blocks, 3), dim=1)
    keys = F.normalize(F.unfold(_at_least(regions), 3), dim=1)
    with torch.no_grad():
        chosen = (queries.mT @ keys).max(2).indices
    matched = keys.gather(2, chosen.unsqueeze(1).expand(-1, keys.shape[1], -1))
    return (queries * matched).sum(1), chosen


def copy_patches(regions: Tensor, chosen: Tensor, scores: Tensor, scale: int) -> Tensor:
    """The matched patches, averaged where they overlap, times the scores: N B, C, 8 s, 8 s."""
    window = 3 * scale
    patches = F.unfold(_at_least(regions, scale), window, stride=scale)
    patches = patches.gather(2, chosen.unsqueeze(1).expand(-1, patches.shape[1], -1))
    size, fold = (BLOCK * scale,) * 2, {"kernel_size": window, "padding": scale, "stride": scale}
    copied = F.fold(patches, size, **fold)
    cover = F.fold(torch.ones_like(patches[:1, : window**2]), size, **fold)
    soft = scores.view(-1, 1, BLOCK, BLOCK)
    for _ in range(scale.bit_length() - 1):
        soft = double(soft)
    return copied / cover * soft


def _at_least(regions: Tensor, scale: int = 1) -> Tensor:
    """Zeros below and right of regions that would not hold one patch."""
    down, right = (max(0, 3 * scale - side) for side in regions.shape[-2:])
    return F.pad(regions, (0, right, 0, down)) if down or right else regions


def choose(found: list[tuple[Tensor, list[Tensor]]]) -> list[Tensor]:
    """The textures of the reference with the best score, block by block; of equal ones the first's."""
    best, textures = found[0]
    for score, others in found[1:]:
        better = score > best
        best = torch.where(better, score, best)
        sizes = [BLOCK * scale for scale in (4, 2, 1)]
        masks = [better.unsqueeze(1).repeat_interleave(n, 2).repeat_interleave(n, 3) for n in sizes]
        textures = [torch.where(*three) for three in zip(masks, others, textures, strict=True)]
    return textures


def double(x: Tensor) -> Tensor:
    """Bilinear enlargement by 2, as `interpolate` without aligned corners, with a deterministic gradient on CUDA."""
    for dim in (2, 3):
        side = x.shape[dim]
        before = torch.cat((x.narrow(dim, 0, 1), x.narrow(dim, 0, side - 1)), dim)
        behind = torch.cat((x.narrow(dim, 1, side - 1), x.narrow(dim, side - 1, 1)), dim)
        both = (0.25 * before + 0.75 * x, 0.75 * x + 0.25 * behind)
        x = torch.stack(both, dim + 1).flatten(dim, dim + 1)
    return x
