"""Networks with the structure and the key names of the authors' released state dicts, from docs/checkpoints.md.

They are written anew for the tests: plain, slow, and without anything of extracter.models.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def c3(a: int, b: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(a, b, 3, stride, 1)


def c1(a: int, b: int) -> nn.Conv2d:
    return nn.Conv2d(a, b, 1)


def up(x: Tensor, factor: int) -> Tensor:
    return F.interpolate(x, scale_factor=factor, mode="bicubic")


class Block(nn.Module):
    def __init__(self, f: int):
        super().__init__()
        self.conv1, self.conv2 = c3(f, f), c3(f, f)

    def forward(self, x):
        return self.conv2(self.conv1(x).relu()) + x


def blocks(f: int, n: int) -> nn.ModuleList:
    return nn.ModuleList(Block(f) for _ in range(n))


def through(modules: nn.ModuleList, x: Tensor) -> Tensor:
    for module in modules:
        x = module(x)
    return x


class Shallow(nn.Module):
    def __init__(self, f: int, n: int):
        super().__init__()
        self.conv_head, self.RBs, self.conv_tail = c3(3, f), blocks(f, n), c3(f, f)

    def forward(self, x):
        x = self.conv_head(x).relu()
        return self.conv_tail(through(self.RBs, x)) + x


class Exchange12(nn.Module):
    def __init__(self, f: int):
        super().__init__()
        self.conv12, self.conv21 = c1(f, f), c3(f, f, 2)
        self.conv_merge1, self.conv_merge2 = c3(2 * f, f), c3(2 * f, f)

    def forward(self, a, b):
        to_b, to_a = self.conv12(up(a, 2)).relu(), self.conv21(b).relu()
        return self.conv_merge1(torch.cat((a, to_a), 1)).relu(), self.conv_merge2(torch.cat((b, to_b), 1)).relu()


class Exchange123(nn.Module):
    def __init__(self, f: int):
        super().__init__()
        self.conv12, self.conv13, self.conv23 = c1(f, f), c1(f, f), c1(f, f)
        self.conv21, self.conv31_1, self.conv31_2, self.conv32 = (c3(f, f, 2) for _ in range(4))
        self.conv_merge1, self.conv_merge2, self.conv_merge3 = (c3(3 * f, f) for _ in range(3))

    def forward(self, a, b, c):
        a_b, a_c, b_c = self.conv12(up(a, 2)).relu(), self.conv13(up(a, 4)).relu(), self.conv23(up(b, 2)).relu()
        b_a, c_b = self.conv21(b).relu(), self.conv32(c).relu()
        c_a = self.conv31_2(self.conv31_1(c).relu()).relu()
        return (
            self.conv_merge1(torch.cat((a, b_a, c_a), 1)).relu(),
            self.conv_merge2(torch.cat((b, a_b, c_b), 1)).relu(),
            self.conv_merge3(torch.cat((c, a_c, b_c), 1)).relu(),
        )


class MergeTail(nn.Module):
    def __init__(self, f: int, ttsr: bool):
        super().__init__()
        self.conv13, self.conv23, self.conv_merge = c1(f, f), c1(f, f), c3(3 * f, f)
        if ttsr:
            self.conv_tail1, self.conv_tail2 = c3(f, f // 2), c1(f // 2, 3)

    def forward(self, a, b, c):
        merged = self.conv_merge(torch.cat((c, self.conv13(up(a, 4)).relu(), self.conv23(up(b, 2)).relu()), 1)).relu()
        return self.conv_tail2(self.conv_tail1(merged)).clamp(-1, 1) if hasattr(self, "conv_tail1") else merged


class Integration(nn.Module):
    """What stands under SR. (with `Enhancement`), under CSFI., and, for TTSR, under MainNet."""

    def __init__(self, f: int, w: int, counts, u: int, ttsr: bool = False):
        super().__init__()
        self.ttsr = ttsr
        self.SFE = Shallow(f, counts[0])
        for name, multiple in (("conv11_head", 4), ("conv22_head", 2), ("conv33_head", 1)):
            conv = [c3(multiple * w + f, f) for _ in range(u)]
            setattr(self, name, conv[0] if ttsr else nn.ModuleList(conv))
        self.RB11, self.conv11_tail = blocks(f, counts[1]), c3(f, f)
        self.conv12, self.conv23 = c3(f, 4 * f), c3(f, 4 * f)
        self.ex12, self.ex123 = Exchange12(f), Exchange123(f)
        self.RB21, self.RB22 = blocks(f, counts[2]), blocks(f, counts[2])
        self.conv21_tail, self.conv22_tail = c3(f, f), c3(f, f)
        self.RB31, self.RB32, self.RB33 = (blocks(f, counts[3]) for _ in range(3))
        self.conv31_tail, self.conv32_tail, self.conv33_tail = (c3(f, f) for _ in range(3))
        self.merge_tail = MergeTail(f, ttsr)

    def attend(self, name: str, x: Tensor, textures, soft) -> Tensor:
        convs = getattr(self, name)
        total = x
        for conv, texture, s in zip([convs] if self.ttsr else convs, textures, soft, strict=True):
            s = F.interpolate(s, x.shape[2:], mode="bicubic") if s.shape != x[:, :1].shape else s
            total = total + conv(torch.cat((x, texture if self.ttsr else texture * s), 1)) * s
        return total

    def forward(self, lr, soft, t3, t2, t1):
        a = self.attend("conv11_head", self.SFE(lr), t3, soft)
        a = a + self.conv11_tail(through(self.RB11, a))
        b = self.attend("conv22_head", F.pixel_shuffle(self.conv12(a), 2).relu(), t2, soft)
        ra, rb = self.ex12(a, b)
        a = a + self.conv21_tail(through(self.RB21, ra))
        b = b + self.conv22_tail(through(self.RB22, rb))
        c = self.attend("conv33_head", F.pixel_shuffle(self.conv23(b), 2).relu(), t1, soft)
        ra, rb, rc = self.ex123(a, b, c)
        a = a + self.conv31_tail(through(self.RB31, ra))
        b = b + self.conv32_tail(through(self.RB32, rb))
        c = c + self.conv33_tail(through(self.RB33, rc))
        return self.merge_tail(a, b, c), a, b, c


class Enhancement(nn.Module):
    """What stands under SR. (with `Integration`) and under GDE."""

    def __init__(self, f: int, counts, normalised: bool, white: float):
        super().__init__()
        self.normalised, self.white = normalised, white
        if normalised:
            self.gradient = nn.Module()
            self.gradient.weight_h = nn.Parameter(torch.tensor([[[[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]]]))
            self.gradient.weight_v = nn.Parameter(torch.tensor([[[[1.0, 2, 1], [0, 0, 0], [-1, -2, -1]]]]))
        self.SFE_GRAD = Shallow(f, counts[0])
        for level, name in enumerate(("12", "23", "33"), 1):
            setattr(self, f"conv{name}_grad", c3(2 * f, f))
            setattr(self, f"grad_{name}", blocks(f, counts[level]))
        self.fuse, self.fuse_tail1, self.fuse_tail2 = c3(2 * f, f), c3(f, f // 2), c1(f // 2, 3)

    def forward(self, lr, x_tt, *textures):
        pixels = F.pad((lr + 1) / 2 * self.white, (1, 1, 1, 1))
        rows, columns = lr.shape[2:]
        part = {(i, j): pixels[..., i : i + rows, j : j + columns] for i in range(3) for j in range(3)}
        right = part[0, 2] + 2 * part[1, 2] + part[2, 2] - part[0, 0] - 2 * part[1, 0] - part[2, 0]
        down = part[2, 0] + 2 * part[2, 1] + part[2, 2] - part[0, 0] - 2 * part[0, 1] - part[0, 2]
        g = (right**2 + down**2 + 1e-6).sqrt()
        if self.normalised:
            low, high = g.amin((0, 2, 3), keepdim=True), g.amax((0, 2, 3), keepdim=True)
            g = (g - low) / (high - low)
        x = self.SFE_GRAD(g)
        for name, texture in zip(("12", "23", "33"), textures, strict=True):
            x = up(x, 2) if name != "12" else x
            x = getattr(self, f"conv{name}_grad")(torch.cat((x, texture), 1)).relu()
            x = x + through(getattr(self, f"grad_{name}"), x)
        x = self.fuse(torch.cat((x_tt, x), 1)).relu()
        return self.fuse_tail2(self.fuse_tail1(x)).clamp(-1, 1)


class Extractor(nn.Module):
    """What stands under FE. and LTE."""

    def __init__(self, w: int):
        super().__init__()
        self.slice1 = nn.Sequential(c3(3, w), nn.ReLU())
        self.slice2, self.slice3 = nn.Sequential(), nn.Sequential()
        for i, m in enumerate((c3(w, w), nn.ReLU(), nn.MaxPool2d(2), c3(w, 2 * w), nn.ReLU()), 2):
            self.slice2.add_module(str(i), m)
        for i, m in enumerate((c3(2 * w, 2 * w), nn.ReLU(), nn.MaxPool2d(2), c3(2 * w, 4 * w), nn.ReLU()), 7):
            self.slice3.add_module(str(i), m)
        self.sub_mean = c1(3, 3)
        std, mean = torch.tensor([0.229, 0.224, 0.225]), torch.tensor([0.485, 0.456, 0.406])
        self.sub_mean.weight.data = torch.diag(1 / std).view(3, 3, 1, 1)
        self.sub_mean.bias.data = -mean / std

    def forward(self, image):
        one = self.slice1(self.sub_mean((image + 1) / 2))
        two = self.slice2(one)
        return one, two, self.slice3(two)


def search_and_transfer(query, key, values, u: int, k: int, early: bool, ttsr: bool):
    """Scores, and textures at 1/4, 1/2 and full size, by unfolding everything."""
    s = k // 3
    q, c = (F.normalize(F.unfold(x, k, padding=s, stride=s), dim=1) for x in (query, key))
    scores = c.mT @ q  # N, keys, queries
    if early and not ttsr:
        chosen = scores.argmax(1)  # for each query its key; stage two searches this list
        scores = c.gather(2, chosen.unsqueeze(1).expand(-1, c.shape[1], -1)).mT @ q
        top, places = scores.topk(u, dim=1)
        found = torch.stack([chosen.gather(1, place) for place in places.unbind(1)], 1)
    else:
        top, found = scores.topk(u, dim=1)
    h, w = query.shape[2:]
    soft = [x.view(-1, 1, h // s, w // s) for x in top.unbind(1)]
    textures = []
    for value, f in zip(values, (4, 2, 1), strict=True):
        window = {"kernel_size": f * k, "padding": f * s, "stride": f * s}
        patches = F.unfold(value, **window)
        of_level = []
        for place in found.unbind(1):
            taken = patches.gather(2, place.unsqueeze(1).expand(-1, patches.shape[1], -1))
            total = F.fold(taken, (f * h, f * w), **window)
            of_level.append(total / (9 if early or ttsr else F.fold(torch.ones_like(taken), (f * h, f * w), **window)))
        textures.append(of_level)
    return soft, textures[2], textures[1], textures[0]


class Official(nn.Module):
    """A whole network in one of the layouts: `SR`, `CSFI` (with GDE), `MainNet` (EXTRACTER's older), or `TTSR`.

    The gradient density is of LR from 0 to `white`: 1 in the current code, whose layout is `SR`, 255 before that.
    """

    def __init__(
        self, layout: str, f: int, w: int, counts, gradient_counts, u: int, kernel: int, white: float | None = None
    ):
        super().__init__()
        self.layout, self.u, self.kernel = layout, u, kernel
        self.extractor = Extractor(w)
        self.integration = Integration(f, w, counts, u, layout == "TTSR")
        if layout != "TTSR":
            white = white or (1 if layout == "SR" else 255)
            self.enhancement = Enhancement(f, gradient_counts, layout != "SR", white)

    def forward(self, lr, lr_up, ref, ref_du):
        query, key = self.extractor(lr_up)[2], self.extractor(ref_du)[2]
        found = search_and_transfer(
            query, key, self.extractor(ref), self.u, self.kernel, self.layout != "SR", self.layout == "TTSR"
        )
        x_tt, *textures = self.integration(lr, *found)
        return x_tt if self.layout == "TTSR" else self.enhancement(lr, x_tt, *textures)

    def released(self) -> dict[str, Tensor]:
        """The state dict by the names of the layout."""
        names = {
            "SR": ("FE", "SR", "SR"),
            "CSFI": ("FE", "CSFI", "GDE"),
            "MainNet": ("LTE", "MainNet", "MainNet"),
            "TTSR": ("LTE", "MainNet", ""),
        }[self.layout]
        modules = dict(zip(("extractor", "integration", "enhancement"), names, strict=True))
        state = {}
        for name, tensor in self.state_dict().items():
            module, rest = name.split(".", 1)
            state[f"{modules[module]}.{rest}"] = tensor.clone()
            if self.layout == "TTSR" and module == "extractor":
                state[f"LTE_copy.{rest}"] = tensor.clone()
        if self.layout == "CSFI":
            state["Gradient.weight_h"] = state["GDE.gradient.weight_h"]
        return state
