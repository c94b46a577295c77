"""Transfer (section 3.2): copy the matched patches of the reference's features and average where they overlap."""

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from extracter.search.block_grid import block_sources, constants, grid_of, locate, neighbour_index, to_outer
from extracter.search.key_table import parallel
from extracter.search.numba_loops import gather_row
from extracter.search.search import SearchConfig


def transfer(
    values: Sequence[Tensor],
    indices: Tensor,
    size: tuple[int, int],
    scale: int,
    config: SearchConfig,
    offsets: Tensor | None = None,
) -> list[Tensor]:
    """Textures T_1 ... T_u = V_H at one level: hard attention with overlap-averaging by the true coverage.

    Args:
        values: features V of each reference at this level, N, C, scale * h_ref, scale * w_ref.
        indices: int64, N, u, Q: the keys that each query matched, counted as in `Matches`.
        size: h, w of the query features at the search level.
        scale: pixels of this level for one of the search level: 1, 2 or 4.
        config: patches of the search level; they are `scale` times as large here.
        offsets: int64, N, u, Q, 2: rows and columns, in pixels of the image (4 for one of the search level), by which
            each patch is moved before it is copied, rounded to whole pixels of this level; k = 3s and p = s.

    Returns:
        For each rank N, C, scale * h, scale * w.
    """
    if offsets is not None:
        moves = (offsets * (scale / 4)).round().long()
        queries = (config.count(size[0]), config.count(size[1]))
        return _transfer_pixels(values, indices, moves, queries, scale * config.stride)
    if (config.has_blocks or config.has_inner_blocks) and config.method != "dense":
        return _transfer_blocks(values, indices, size, scale, config)
    return [transfer_patches(values, chosen, size, scale, config) for chosen in indices.unbind(1)]


def transfer_patches(
    values: Sequence[Tensor], indices: Tensor, size: tuple[int, int], scale: int, config: SearchConfig
) -> Tensor:
    """The definition of `transfer` for one rank, N, Q: unfold, gather, fold; any kernel, stride and padding."""
    window = {
        "kernel_size": scale * config.kernel,
        "padding": scale * config.padding,
        "stride": scale * config.stride,
    }
    patches = torch.cat([F.unfold(value, **window) for value in values], dim=2)  # N, C K K, keys
    chosen = patches.gather(2, indices.unsqueeze(1).expand(-1, patches.shape[1], -1))
    output = (scale * size[0], scale * size[1])
    coverage = F.fold(torch.ones_like(chosen[:1, : window["kernel_size"] ** 2]), output, **window)
    return F.fold(chosen, output, **window) / coverage


def _transfer_blocks(
    values: Sequence[Tensor], indices: Tensor, size: tuple[int, int], scale: int, config: SearchConfig
) -> list[Tensor]:
    """`transfer` for k = 3s and p = s or 0, where a patch is a 3 x 3 neighbourhood of s x s blocks.

    Each output block is the mean of up to nine blocks of V, found from the matches of the neighbouring queries: a
    gather-sum without the nine-fold copies of unfold and fold. The results are channels-last in memory; on the CPU they
    are all that is held where V is channels-last, too.
    """
    block = scale * config.stride
    rows, columns = (side // config.stride for side in size)
    grids = [grid_of(value, block) for value in values]
    ring = int(config.has_inner_blocks)
    if ring:
        indices = to_outer(indices, grids)
    weights = 1 / coverage(rows, columns, values[0].device, ring).to(values[0].dtype)
    neighbours = neighbour_index(grids, indices.device)  # 9, keys: block at each offset from a key
    sources = block_sources(neighbours, indices, rows, columns, ring)
    pixels = [value.permute(0, 2, 3, 1) for value in values]
    if gather_row is not None and all(map(_plain, pixels)):
        gather = partial(_gather_pixels, [x.flatten(2).numpy() for x in pixels], grids, block, weights.numpy())
        textures = [gather(of_rank) for of_rank in sources.unbind(1)]
    else:
        textures = _gather_table(_lay_out(values, grids, block), block, weights, sources)
    return [texture.permute(0, 3, 1, 2) for texture in textures]


def _transfer_pixels(
    values: Sequence[Tensor], indices: Tensor, moves: Tensor, queries: tuple[int, int], block: int
) -> list[Tensor]:
    """`transfer` where each patch is moved by whole pixels: an output pixel is the mean of up to nine pixels of V.

    What lies outside a reference counts as zero, as without moves.
    """
    batch, channels = values[0].shape[:2]
    rows, columns = queries
    table = torch.cat([value.permute(0, 2, 3, 1).flatten(1, 2) for value in values], 1)
    table = F.pad(table, (0, 0, 0, 1))  # the last row is for everything outside
    sources = pixel_sources([(v.shape[-2], v.shape[-1]) for v in values], indices, moves, rows, columns, block)
    weights = 1 / coverage(rows, columns, table.device).to(table.dtype).view(1, rows, columns, 1, 1)
    weights = weights.expand(batch, -1, -1, block, block).reshape(-1, 1).expand(-1, 9).contiguous()
    offset = torch.arange(batch, device=table.device).view(-1, 1, 1, 1, 1, 1) * table.shape[1]
    textures = []
    for chosen in sources:  # N, rows, columns, block, block, 9
        pixels = F.embedding_bag(
            (chosen + offset).view(-1, 9), table.flatten(0, 1), per_sample_weights=weights, mode="sum"
        )
        image = pixels.view(batch, rows, columns, block, block, channels).transpose(2, 3)
        textures.append(image.reshape(batch, rows * block, columns * block, channels).permute(0, 3, 1, 2))
    return textures


def pixel_sources(
    sizes: Sequence[tuple[int, int]], indices: Tensor, moves: Tensor, rows: int, columns: int, block: int
) -> Iterator[Tensor]:
    """For each rank and output pixel the nine pixels that meet in it, counted on over all references.

    Args:
        sizes: height and width of each reference in pixels.
        indices: N, u, rows * columns: the key of each query.
        moves: N, u, rows * columns, 2: how many pixels down and right its patch is moved.
        rows: of queries.
        columns: of queries.
        block: side of a block in pixels; a patch has 3 x 3 blocks.

    Yields:
        int64, N, rows, columns, block, block, 9; the number of all pixels where it lies outside.
    """
    device = indices.device
    grids = [(height // block, width // block) for height, width in sizes]
    number, row, column = locate(indices, grids)
    height, width = (constants(side, device)[number] for side in zip(*sizes, strict=True))
    first = constants((0, *(h * w for h, w in sizes)), device).cumsum(0)
    outside = first[-1]
    # A patch lends its block d to the output block at its query's position + d.
    near = torch.arange(9, device=device)
    down, right = near.div(3, rounding_mode="floor") - 1, near % 3 - 1
    query_row = torch.arange(rows, device=device).view(-1, 1, 1) - down
    query_column = torch.arange(columns, device=device).view(1, -1, 1) - right
    inside = (query_row >= 0) & (query_row < rows) & (query_column >= 0) & (query_column < columns)
    query = query_row.clamp(0, rows - 1) * columns + query_column.clamp(0, columns - 1)  # rows, columns, 9
    line = torch.arange(block, device=device)
    for rank in range(indices.shape[1]):
        key_top = row[:, rank] * block + moves[:, rank, :, 0]
        key_left = column[:, rank] * block + moves[:, rank, :, 1]
        top, left = key_top[:, query] + down * block, key_left[:, query] + right * block  # N, rows, columns, 9
        y = top[..., None, None, :] + line.view(-1, 1, 1)
        x = left[..., None, None, :] + line.view(1, -1, 1)
        tall, wide, begin = (of[:, rank][:, query][..., None, None, :] for of in (height, width, first[number]))
        within = inside[:, :, None, None] & (y >= 0) & (y < tall) & (x >= 0) & (x < wide)
        yield torch.where(within, begin + y * wide + x, outside)


def _plain(pixels: Tensor) -> bool:
    """Whether a compiled loop may read it."""
    return (
        pixels.device.type == "cpu"
        and pixels.dtype == torch.float32
        and pixels.is_contiguous()
        and not (torch.is_grad_enabled() and pixels.requires_grad)
    )


def _gather_pixels(
    images: Sequence[np.ndarray], grids: Sequence[tuple[int, int]], block: int, weights: np.ndarray, sources: Tensor
) -> Tensor:
    """Textures N, height, width, C straight from the pixels of each reference, N, h, w C."""
    batch, rows, columns, _ = sources.shape
    channels = images[0].shape[2] // (grids[0][1] * block)
    textures = torch.zeros(batch, rows, block, columns * block * channels)
    into, blocks = textures.numpy(), sources.contiguous().numpy()

    def fill(start: int, stop: int) -> None:
        for n, row in (divmod(place, rows) for place in range(start, stop)):
            first = 0
            for image, (down, across) in zip(images, grids, strict=True):
                gather_row(image[n], blocks[n, row], first, weights[row], block, channels, into[n, row])
                first += down * across

    parallel(fill, 0, batch * rows)
    return textures.view(batch, rows * block, columns * block, channels)


def _gather_table(table: Tensor, block: int, weights: Tensor, sources: Tensor) -> list[Tensor]:
    """Textures N, height, width, C of each rank from all blocks laid out as `_lay_out` does."""
    batch, ranks, rows, columns, _ = sources.shape
    offsets = torch.arange(0, batch * table.shape[1], table.shape[1], device=table.device)
    rows_of_table = (sources + offsets.view(-1, 1, 1, 1, 1)).transpose(0, 1).reshape(ranks, -1, 9)
    shares = weights.view(1, -1, 1).expand(batch, -1, 9).reshape(-1, 9)
    textures = []
    for chosen in rows_of_table.unbind(0):
        blocks = F.embedding_bag(chosen, table.flatten(0, 1), per_sample_weights=shares, mode="sum")
        image = blocks.view(batch, rows, columns, block, block, -1).transpose(2, 3)
        textures.append(image.reshape(batch, rows * block, columns * block, -1))
    return textures


def _lay_out(values: Sequence[Tensor], grids: Sequence[tuple[int, int]], block: int) -> Tensor:
    """Every block of every reference as a row, and a row of zeros for what lies outside: N, rows, block block C."""
    batch, channels = values[0].shape[:2]
    count = sum(rows * columns for rows, columns in grids)
    table = values[0].new_empty(batch, count + 1, block * block * channels)
    table[:, count] = 0
    start = 0
    for value, (rows, columns) in zip(values, grids, strict=True):
        part = table[:, start : start + rows * columns].view(batch, rows, columns, block, block, channels)
        part.copy_(value.view(batch, channels, rows, block, columns, block).permute(0, 2, 4, 3, 5, 1))
        start += rows * columns
    return table


def coverage(rows: int, columns: int, device: torch.device, ring: int = 0) -> Tensor:
    """How many patches of 3 x 3 blocks meet in each of rows x columns blocks.

    Args:
        rows: of blocks.
        columns: of blocks.
        device: of the result.
        ring: blocks at each edge that are the middle of no patch. Without, 9 patches meet inside, 6 at edges, 4 in
            corners.
    """
    sides = []
    for n in (rows, columns):
        position = torch.arange(n, device=device)
        first, last = (position - 1).clamp(min=ring), (position + 1).clamp(max=n - 1 - ring)
        sides.append(last - first + 1)
    return sides[0].view(-1, 1) * sides[1].view(1, -1)
