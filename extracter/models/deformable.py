"""Deformable convolution (DCNv2: Zhu et al., CVPR 2019) in plain PyTorch, with the values taken by index.

`torchvision.ops.deform_conv2d` computes the same. It is not used, since its gradient to the input adds atomically on
CUDA, its backward pass runs on one thread on the CPU, and its input must have the size of its output.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Without gradients, sampled values are held for a part of the output at a time: this many numbers.
_PART = 2**24


class DeformableConv(nn.Module):
    """The weights of a 3 x 3 deformable convolution; `deformable_conv` says what it computes."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        conv = nn.Conv2d(in_channels, out_channels, 3)  # for PyTorch's usual first weights
        self.weight, self.bias = conv.weight, conv.bias

    def forward(self, values: Tensor, offsets: Tensor, mask: Tensor | None = None) -> Tensor:
        """As `deformable_conv`."""
        return deformable_conv(values, offsets, mask, self.weight, self.bias)

    def combine(self, sampled: Tensor) -> Tensor:
        """The result, N, O, h, w, from what the taps have read: N, h, w, 9, G, C / G."""
        return F.linear(sampled.flatten(3), _matrix(self.weight), self.bias).permute(0, 3, 1, 2)


def deformable_conv(values: Tensor, offsets: Tensor, mask: Tensor | None, weight: Tensor, bias: Tensor) -> Tensor:
    """3 x 3 convolution whose taps are displaced, bilinearly between pixels, with zeros outside.

    Args:
        values: N, C, H, W; sampled, of any size.
        offsets: N, 18 G, h, w in pixels of `values`, ordered group, tap, (y, x); each of G groups of channels has its
            own. Tap (i, j) at (y, x) lies at (y + i - 1 + dy, x + j - 1 + dx), i and j being 0, 1, 2.
        mask: N, 9 G, h, w, by which the sampled values are multiplied; None for ones.
        weight: O, C, 3, 3.
        bias: O.

    Returns:
        N, O, h, w.

    Example:
        >>> x, weight = torch.rand(1, 2, 5, 5), torch.rand(3, 2, 3, 3)
        >>> still = deformable_conv(x, torch.zeros(1, 18, 5, 5), None, weight, torch.zeros(3))
        >>> torch.allclose(still, F.conv2d(x, weight, padding=1), atol=1e-5)
        True
    """
    batch, _, height, width = offsets.shape
    channels = values.shape[1]
    groups = offsets.shape[1] // 18
    # N, h, w, tap, group: the order in which a matrix product wants taps and channels.
    positions = tap_positions(offsets.float() if offsets.dtype in (torch.float16, torch.bfloat16) else offsets)
    shares = None if mask is None else tap_shares(mask)
    # Rows of the table are groups of channels at a pixel; no copy where `values` is channels-last.
    table = values.permute(0, 2, 3, 1).reshape(-1, channels // groups)
    matrix = _matrix(weight)

    def rows(part: slice) -> Tensor:
        sampled = _sample(table, positions[:, part], None if shares is None else shares[:, part], values.shape)
        return F.linear(sampled.flatten(3), matrix, bias)  # N, rows, w, O

    step = height
    if not torch.is_grad_enabled():
        step = max(1, _PART // (batch * width * 9 * channels))
    parts = [rows(slice(start, start + step)) for start in range(0, height, step)]
    return torch.cat(parts, 1).permute(0, 3, 1, 2)


def _matrix(weight: Tensor) -> Tensor:
    return weight.permute(0, 2, 3, 1).flatten(1)  # O, tap C


def tap_shares(mask: Tensor) -> Tensor:
    """A mask N, 9 G, h, w in the order of positions: N, h, w, 9, G."""
    return mask.unflatten(1, (-1, 9)).permute(0, 3, 4, 2, 1)


def tap_positions(offsets: Tensor) -> Tensor:
    """Where each tap reads, N, h, w, 9, G, 2, in (y, x)."""
    height, width = offsets.shape[-2:]
    taps = torch.arange(-1, 2, device=offsets.device, dtype=offsets.dtype)
    rows = torch.arange(height, device=offsets.device, dtype=offsets.dtype).view(-1, 1) + taps  # h, 3
    columns = torch.arange(width, device=offsets.device, dtype=offsets.dtype).view(-1, 1) + taps  # w, 3
    grid = torch.stack(
        torch.broadcast_tensors(rows.view(height, 1, 3, 1), columns.view(1, width, 1, 3)), -1
    )  # h, w, 3, 3, 2
    return offsets.unflatten(1, (-1, 9, 2)).permute(0, 4, 5, 2, 1, 3) + grid.view(height, width, 9, 1, 2)


def _sample(table: Tensor, positions: Tensor, shares: Tensor | None, shape: torch.Size) -> Tensor:
    """Bilinear samples, N, h, w, 9, G, C / G, of a table N H W G, C / G, at positions N, h, w, 9, G, 2."""
    batch, _, height, width = shape
    groups = positions.shape[4]
    rows, columns, weights = neighbours(positions, height, width)
    if shares is not None:
        weights = weights * shares.unsqueeze(-1)
    image = torch.arange(batch, device=table.device).view(-1, 1, 1, 1, 1, 1) * (height * width)
    group = torch.arange(groups, device=table.device).view(-1, 1)
    # A bag is a weighted sum of rows: the four neighbours are never laid out side by side.
    sampled = F.embedding_bag(
        ((image + rows * width + columns) * groups + group).flatten(0, -2),
        table,
        per_sample_weights=weights.flatten(0, -2).to(table.dtype),
        mode="sum",
    )
    return sampled.view(*positions.shape[:5], -1)


def neighbours(positions: Tensor, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, columns and bilinear weights, each ..., 4, of the pixels around positions ..., 2 in (y, x).

    Pixels outside have the weight 0 and the place of the nearest pixel inside.
    """
    y = positions[..., 0].clamp(-2, height + 1)  # further out everything is zero, too
    x = positions[..., 1].clamp(-2, width + 1)
    # Bilinear weights have no slope at whole pixels; as everywhere with DCNv2, that of the right-hand side counts.
    top, left = y.detach().floor(), x.detach().floor()
    down, right = y - top, x - left
    rows, columns, weights = [], [], []
    for row, by_row in ((top, 1 - down), (top + 1, down)):
        for column, by_column in ((left, 1 - right), (left + 1, right)):
            exists = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            rows.append(row.clamp(0, height - 1).long())
            columns.append(column.clamp(0, width - 1).long())
            weights.append(by_row * by_column * exists)
    return torch.stack(rows, -1), torch.stack(columns, -1), torch.stack(weights, -1)
