"""The network after the search, on one tile: as `reconstruct` of Extracter and TTSR, and exact inside the tile.

What lies beyond a tile's edge is unknown to the convolutions, so a tile begins with a margin. Each stage crops the maps
to what the stages after it still need: full-size maps are only as large as the last stages ask for.

IFE and the first stage of CSFI work at the size of LR, with most of the network's layers in sequence and hence most of
the margin. They run first, in larger tiles of their own (`first_stage`), and their result is held for the whole image.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from extracter.inference.tiling.windows import Patch, Picture, Window
from extracter.models.blocks import upsample
from extracter.models.dpfsr import DPFSR, ChannelAttentionExtractor
from extracter.models.extracter import Extracter
from extracter.models.gde import Gradient, gradient_bounds, gradient_density, normalise
from extracter.models.ttsr import TTSR

Network = Extracter | TTSR | DPFSR
SCALES = (1, 2, 4)  # pixels of a cell's side, coarsest level first
_TAIL = 1  # cells for fuse and tail: two pixels at full size
_MERGE = (4, 3, 2)  # cells for the merge of CSFI, a pixel before the tail, and its enlargements; coarsest first


@dataclass(frozen=True)
class Margins:
    """Cells that each part must give beyond the tile, so that the parts after it are right inside the tile.

    Attributes:
        inputs: of what goes into GDE's levels, coarsest first; empty for TTSR.
        levels: of what comes out of them.
        synthesised: of T_3, T_2, T_1, what CSFI gives.
        mixed: of the branches of CSFI's stages two and three, after the exchange.
        entered: of all maps that go into stage one, two and three; of stage one beyond its own tiles.
        gradient: of the gradient density.
        lr: of LR, beyond the tiles of stage one.
        fusion: what a fusion sees beyond what it gives.
    """

    inputs: tuple[int, ...]
    levels: tuple[int, ...]
    synthesised: tuple[int, int, int]
    mixed: tuple[tuple[int, ...], ...]
    entered: tuple[int, int, int]
    gradient: int
    lr: int
    fusion: int = 1

    @classmethod
    def of(cls, model: Network) -> "Margins":
        """Counted from the network's convolutions.

        A 3 x 3 convolution reaches one pixel, a bicubic enlargement two, an exchange three cells at most: two for the
        bicubic and less than one for its convolutions.
        """
        fusion = 2 if isinstance(model, DPFSR) else 1  # convolutions in sequence
        synthesised = list(_MERGE)
        inputs, levels = [], []
        if model.gde is not None:
            need = _TAIL
            for place in (2, 1, 0):
                levels.insert(0, need)
                need += cells(1 + convolutions(model.gde.levels[place].stage), SCALES[place])
                inputs.insert(0, need)
                synthesised[place] = max(synthesised[place], need)
                need += 2 // SCALES[place - 1] if place else 0
        blocks = [[convolutions(branch) for branch in stage] for stage in model.csfi.stages]
        mixed, entered = [], []
        need_of = synthesised
        for stage in (2, 1):
            behind = [need + cells(n, f) for need, n, f in zip(need_of, blocks[stage], SCALES, strict=False)]
            mixed.insert(0, tuple(behind))
            entered.insert(0, max(behind) + 3)
            # The fusion's convolutions and the pixel shuffle's.
            need_of = [entered[0] + fusion + 1] * stage
        entered.insert(0, blocks[0][0])
        shallow = convolutions(model.ife)
        gradient = inputs[0] + 1 + convolutions(model.gde.extractor.stage) if inputs else 0
        lr = entered[0] + fusion + shallow
        return cls(tuple(inputs), tuple(levels), tuple(synthesised), tuple(mixed), tuple(entered), gradient, lr, fusion)


def convolutions(part: torch.nn.Module) -> int:
    """3 x 3 convolutions in sequence in a part of the network."""
    return sum(isinstance(module, torch.nn.Conv2d) and module.kernel_size == (3, 3) for module in part.modules())


def cells(pixels: int, scale: int) -> int:
    """Cells that cover so many pixels, `scale` of which are a cell's side."""
    return math.ceil(pixels / scale)


class Tile:
    """One tile of the result.

    Args:
        model: the network.
        margins: of the network.
        lr: LR.
        textures: gives the textures of a window at a level, finest 0; None without a reference.
        scores: S_i over the whole image, u, rows, columns; None without a reference.
        inner: the tile; its edges are multiples of the stride, or the image's.
        first: what `first_stage` gave for the whole image; `run` needs it.
        bounds: of the whole image's gradient density, for networks that normalise it.
        means: of the whole image's features, for DPFSR; see `channel_means`.
    """

    def __init__(
        self,
        model: Network,
        margins: Margins,
        lr: Picture,
        textures: Callable[[Window, int], list[Tensor]] | None,
        scores: Tensor | None,
        inner: Window,
        first: Tensor | None = None,
        bounds: tuple[Tensor, Tensor] | None = None,
        means: list[Tensor] | None = None,
    ):
        self.means = means
        self.model, self.margins, self.lr, self.textures, self.scores = model, margins, lr, textures, scores
        self.inner, self.whole, self.first, self.bounds = inner, lr.whole, first, bounds
        self.stride = model.search.stride

    def first_stage(self) -> Tensor:
        """What the first stage of CSFI gives inside the tile: 1, C, height, width."""
        csfi = self.model.csfi
        start = self._grown(self.margins.lr)
        incoming = Patch(self._extract(self.lr.cut(start)), start, 1)
        fused = self._fuse(csfi.fusions[0], incoming, self._grown(self.margins.entered[0]))
        residual = fused._replace(x=csfi.stages[0][0](fused.x)).crop(self.inner)
        return fused.crop(self.inner).x + residual.x

    def run(self) -> Tensor:
        """SR of the tile, not yet clamped and without the bicubic skip: 1, 3, 4 height, 4 width."""
        scales = self._integrate()
        x_tt = self._merge(scales)
        if self.model.gde is not None:
            x_3g = self._enhance(scales)
            del scales
            x_tt = F.relu(self.model.fuse(torch.cat((x_3g, x_tt), 1)), inplace=True)
        return self.inner.of(self.model.tail(x_tt), self._grown(_TAIL), 4)

    def _grown(self, cells: int, align: int = 1) -> Window:
        return self.inner.grow(cells, self.whole, align)

    def _integrate(self) -> list[Patch]:
        """CSFI: T_3, T_2, T_1, each with the margin that is still needed of it."""
        csfi = self.model.csfi
        window = self._grown(self.margins.entered[1] + self.margins.fusion + 1)
        scales = [Patch(window.of(self.first, self.whole, 1), window, 1)]
        for stage in (1, 2):
            entered = self._grown(self.margins.entered[stage])
            last = scales[-1]
            incoming = Patch(csfi.ups[stage - 1](last.x), last.window, SCALES[stage])
            scales = [*(p.crop(entered) for p in scales), self._fuse(csfi.fusions[stage], incoming, entered)]
            del last, incoming
            maps = csfi.exchanges[stage - 1]([patch.x for patch in scales])
            windows = (self._grown(cells) for cells in self.margins.mixed[stage - 1])
            mixed = [p._replace(x=x).crop(w) for p, x, w in zip(scales, maps, windows, strict=True)]
            del maps
            for place, (branch, window) in enumerate(zip(csfi.stages[stage], self._behind(stage), strict=True)):
                branched = mixed.pop(0)
                residual = branched._replace(x=branch(branched.x)).crop(window)
                kept = scales[place].crop(window)
                scales[place] = kept._replace(x=kept.x + residual.x)
        return scales

    def _extract(self, lr: Tensor) -> Tensor:
        return self.model.ife(lr) if self.means is None else self.model.ife(lr, self.means)

    def _behind(self, stage: int) -> list[Window]:
        """Windows that are needed of each branch after a stage."""
        if stage == 2:
            return [self._grown(cells) for cells in self.margins.synthesised]
        return [self._grown(self.margins.entered[stage + 1] + self.margins.fusion + 1)] * (stage + 1)

    def _fuse(self, fusion: torch.nn.Module, incoming: Patch, entered: Window) -> Patch:
        """Eq. 7 over the window that goes into a stage."""
        # Textures come in blocks; a pixel more than the stage needs is enough for a convolution.
        around = entered.grow(self.margins.fusion, self.whole, self.stride)
        window = entered.grow(self.margins.fusion, self.whole)
        entering = incoming.crop(window)
        if self.textures is None or self.scores is None:
            return entering._replace(x=fusion.alone(entering.x, self.model.gate.idle.flatten())).crop(entered)
        level = 2 - SCALES.index(incoming.scale)
        textures = [window.of(x, around, incoming.scale).to(self.scores.dtype) for x in self.textures(around, level)]
        soft = self._soft(self.scores, window, around, incoming.scale)
        return entering._replace(x=fusion(entering.x, textures, soft)).crop(entered)

    def _soft(self, scores: Tensor, window: Window, around: Window, scale: int) -> list[Tensor]:
        """S_i resized to a window: u tensors 1, 1, scale height, scale width."""
        every = Window(0, scores.shape[1], 0, scores.shape[2])
        s = self.stride
        blocks = around.in_blocks(s).grow(2, every)
        cells = Window(blocks.top * s, blocks.bottom * s, blocks.left * s, blocks.right * s)
        part = blocks.of(scores, every, 1).unsqueeze(1)  # u, 1, rows, columns
        return list(window.of(upsample(part, s * scale), cells, scale).unsqueeze(1))

    def _merge(self, scales: Sequence[Patch]) -> Tensor:
        """x_TT, one cell beyond the tile."""
        csfi = self.model.csfi
        coarse, middle, fine = (patch.crop(self._grown(cells)) for patch, cells in zip(scales, _MERGE, strict=True))
        taken = [fine.x]
        for conv, patch, factor in zip(csfi.merge_ups, (coarse, middle), (4, 2), strict=True):
            enlarged = Patch(upsample(patch.x, factor), patch.window, 4).crop(fine.window)
            taken.append(F.relu(conv(enlarged.x), inplace=True))
        x = F.relu(csfi.merge(torch.cat(taken, 1)), inplace=True)
        return fine._replace(x=x).crop(self._grown(_TAIL)).x

    def _enhance(self, scales: Sequence[Patch]) -> Tensor:
        """GDE: x_3g, one cell beyond the tile."""
        gde = self.model.gde
        window = self._grown(self.margins.gradient)
        density = _density(self.lr, window, gde.gradient)
        x = Patch(gde.extractor(density if self.bounds is None else normalise(density, self.bounds)), window, 1)
        for level, texture, inputs, outputs in zip(
            gde.levels, scales, self.margins.inputs, self.margins.levels, strict=True
        ):
            if texture.scale != x.scale:
                x = Patch(upsample(x.x, 2), x.window, texture.scale)
            window = self._grown(inputs)
            x = Patch(level(x.crop(window).x, texture.crop(window).x), window, x.scale).crop(self._grown(outputs))
        return x.x


def channel_means(extractor: ChannelAttentionExtractor, lr: Picture, memory: float) -> list[Tensor]:
    """Means of each block's residual over a whole LR, 1, C, 1, 1, from which channel attention takes its weights.

    They follow from one another, so that the blocks before are computed again for each.

    Args:
        extractor: of DPFSR.
        lr: LR.
        memory: bytes.
    """
    channels = extractor.head.out_channels
    reach = convolutions(extractor)
    side = max(16, int((memory / (4 * 6 * channels)) ** 0.5) - 2 * reach)
    means: list[Tensor] = []
    for number, block in enumerate(extractor.blocks):
        total = torch.zeros(1, channels, 1, 1, dtype=torch.float64, device=lr.device)
        for part in lr.whole.split(side, side):
            outer = part.grow(2 * number + 3, lr.whole)
            x = F.relu(extractor.head(lr.cut(outer)), inplace=True)
            for before, of_block in zip(extractor.blocks, means, strict=False):
                x = before(x, of_block)
            total += part.of(block.residual(x), outer, 1).sum((2, 3), dtype=torch.float64, keepdim=True)
        means.append((total / (lr.whole.height * lr.whole.width)).float())
    return means


def density_bounds(lr: Picture) -> tuple[Tensor, Tensor]:
    """Bounds of the gradient density of a whole LR."""
    parts = [gradient_bounds(_density(lr, part, "normalised")) for part in lr.whole.split(512, 512)]
    low, high = (torch.stack(values) for values in zip(*parts, strict=True))
    return low.amin(0), high.amax(0)


def _density(lr: Picture, window: Window, gradient: Gradient) -> Tensor:
    """Gradient density of a window, 1, 3, height, width; beyond the image the Sobel kernels see zeros."""
    outer = window.grow(1, lr.whole)
    return window.of(gradient_density(lr.cut(outer), gradient), outer, 1)
