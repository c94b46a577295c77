"""Stand-ins for the training set and the four test sets, cropped from photographs that ship with scikit-image.

They show that every step works without a network; their results cannot be compared with the paper's. Each test set has
the layout of the set it stands for. No photograph is used for both training and testing; the two views of the
motorcycle count as one photograph.
"""

from dataclasses import dataclass
from pathlib import Path

import skimage
from PIL import Image

from extracter.data import manifest
from extracter.data.images import decode
from extracter.data.pairs import recolour, warp
from extracter.data.references import GROUND_TRUTH, SCENE_MATCHES, Layout
from extracter.errors import UserError


@dataclass(frozen=True)
class Cut:
    """A crop of a photograph: `box` is left, top, width, height in pixels, after reduction by `shrink`.

    `scale` and `rotation` (degrees) are for `pairs.warp` around the centre of the box, `gain` (red, green, blue) and
    `gamma` for `pairs.recolour`.
    """

    file: str
    box: tuple[int, int, int, int] | None = None
    scale: float = 1.0
    rotation: float = 0.0
    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    gamma: float = 1.0
    shrink: int = 1

    @property
    def photograph(self) -> str:
        """Name of the photograph, the same for both views of a stereo pair."""
        return Path(self.file).stem.removesuffix("_left").removesuffix("_right")


TRAIN = {name: Cut(name) for name in ("astronaut.png", "camera.png", "coffee.png", "gravel.png")}

# Five references each, in order of decreasing similarity: another view or a slight warp, a stronger warp, a strong warp
# in other colours, another part of the scene, another scene.
CUFED5 = {
    "000": (
        Cut("motorcycle_left.png", (230, 190, 318, 254)),
        Cut("motorcycle_right.png", (200, 190, 318, 254)),
        Cut("motorcycle_right.png", (205, 185, 306, 246), scale=0.96, rotation=4.0),
        Cut("motorcycle_right.png", (215, 190, 278, 238), scale=0.9, rotation=-8.0, gain=(0.8, 1.0, 1.15), gamma=1.2),
        Cut("motorcycle_left.png", (0, 100, 229, 330)),
        Cut("chelsea.png", (0, 60, 300, 240)),
    ),
    "001": (
        Cut("motorcycle_left.png", (345, 0, 350, 187)),
        Cut("motorcycle_right.png", (315, 0, 350, 187)),
        Cut("motorcycle_right.png", (330, 15, 310, 170), scale=0.96, rotation=3.0),
        Cut("motorcycle_right.png", (340, 20, 280, 160), scale=0.92, rotation=-6.0, gain=(1.2, 0.95, 0.7), gamma=0.85),
        Cut("motorcycle_left.png", (0, 0, 300, 200)),
        Cut("chelsea.png", (200, 60, 250, 187)),
    ),
    "002": (
        Cut("chelsea.png", (75, 45, 250, 221)),
        Cut("chelsea.png", (80, 40, 250, 221), scale=1.04, rotation=2.0, gain=(0.95, 0.95, 0.95)),
        Cut("chelsea.png", (90, 50, 220, 201), scale=0.95, rotation=-5.0),
        Cut("chelsea.png", (110, 55, 200, 181), scale=1.12, rotation=9.0, gain=(0.75, 0.95, 1.2), gamma=1.25),
        Cut("chelsea.png", (326, 0, 125, 300)),
        Cut("motorcycle_left.png", (0, 340, 200, 160)),
    ),
}

# Several references each: other parts of the same scene.
SUN80 = {
    "grass": (
        Cut("grass.png", (0, 0, 301, 382)),
        Cut("grass.png", (302, 0, 210, 255)),
        Cut("grass.png", (302, 256, 210, 256)),
        Cut("grass.png", (0, 384, 301, 128)),
    ),
    "hubble": (
        Cut("hubble_deep_field.jpg", (0, 0, 384, 386)),
        Cut("hubble_deep_field.jpg", (390, 0, 384, 384)),
        Cut("hubble_deep_field.jpg", (0, 392, 384, 384)),
        Cut("hubble_deep_field.jpg", (390, 392, 384, 384)),
        Cut("hubble_deep_field.jpg", (776, 200, 224, 500)),
    ),
    "retina": (
        Cut("retina.jpg", (60, 220, 283, 250), shrink=2),
        Cut("retina.jpg", (350, 100, 256, 240), shrink=2),
        Cut("retina.jpg", (350, 380, 256, 240), shrink=2),
    ),
}

URBAN100 = {
    "brick": Cut("brick.png", (0, 0, 384, 384)),
    "coins": Cut("coins.png"),
    "rocket": Cut("rocket.jpg", (0, 60, 257, 363)),
}

SET14 = {
    "ihc": Cut("ihc.png", (0, 0, 301, 258)),
    "moon": Cut("moon.png", (254, 0, 258, 255)),
    "page": Cut("page.png"),
    "text": Cut("text.png", (0, 0, 383, 172)),
}


def _layouts() -> dict[str, tuple[Layout, dict[str, Cut]]]:
    """The layout of each set, and its crops by file name."""
    cufed5 = {f"{name}_{rank}.png": cut for name, cuts in CUFED5.items() for rank, cut in enumerate(cuts)}
    sun80 = {f"{GROUND_TRUTH}/{name}.png": cuts[0] for name, cuts in SUN80.items()}
    for name, cuts in SUN80.items():
        sun80 |= {f"{SCENE_MATCHES}/{name}.png/{number}.png": cut for number, cut in enumerate(cuts[1:], 1)}
    return {
        "train": ("photographs", TRAIN),
        "cufed5": ("cufed5", cufed5),
        "sun80": ("sun_hays", sun80),
        "urban100": ("photographs", {f"{name}.png": cut for name, cut in URBAN100.items()}),
        "set14": ("photographs", {f"{name}.png": cut for name, cut in SET14.items()}),
    }


SETS = _layouts()


def crop(what: Cut) -> Image.Image:
    """The pixels of a crop, 8-bit RGB.

    Raises:
        UserError: scikit-image is installed without its photographs.
    """
    path = Path(skimage.__file__).parent / "data" / what.file
    remedy = "install scikit-image again from requirements.lock"
    try:
        photo = decode(path.read_bytes(), path, remedy)
    except FileNotFoundError:
        raise UserError(f"{path}: missing from this scikit-image; {remedy}") from None
    if what.shrink > 1:
        photo = photo.reduce(what.shrink)
    if what.box is not None:
        left, top, width, height = what.box
        center = (left + width / 2, top + height / 2)
        photo = warp(photo, center, (width, height), scale=what.scale, rotation=what.rotation)
    if what.gain != (1.0, 1.0, 1.0) or what.gamma != 1.0:
        photo = recolour(photo, what.gain, what.gamma)
    return photo


def layout(name: str) -> Layout:
    """How the files of a stand-in set are named.

    Raises:
        UserError: there is no stand-in for the set.
    """
    if name not in SETS:
        raise UserError(f"{name}: the demo data has no stand-in for it, only for {', '.join(SETS)}")
    return SETS[name][0]


def paths(name: str) -> list[str]:
    """Files of a stand-in set, relative to its folder."""
    return sorted(SETS[name][1])


def write(name: str, folder: Path, chosen: list[str]) -> list[manifest.Entry]:
    """Write the chosen files of a stand-in set as PNG.

    Returns:
        their manifest entries.
    """
    return [manifest.write_png(folder, path, crop(SETS[name][1][path])) for path in chosen]
