"""Peak memory of one super-resolution, as a program: budget in MiB, sides of LR and of the reference, kernel.

The picture of `--compare` is drawn, too. Prints MiB of resident set over that of the interpreter with its modules
loaded, and how many steps the run took.
"""

import re
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from extracter.inference.compare_figure import draw
from extracter.inference.upscaler import Upscaler
from extracter.memory import MIB, malloc_return
from extracter.models.extracter import Extracter
from extracter.photos.photo import Photo


def status(key: str) -> float:
    return int(re.search(rf"^{key}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)[1]) / 1024


def main() -> None:
    budget, side, ref_side, kernel = (int(argument) for argument in sys.argv[1:5])
    malloc_return()
    Path("/proc/self/clear_refs").write_text("5")
    baseline = status("VmRSS")
    torch.manual_seed(0)
    model = Extracter(
        features=16, dfe_width=8, ife_blocks=1, csfi_blocks=(2, 1, 1), gde_blocks=(1, 1, 1), bicubic_skip=True
    )
    rng = np.random.default_rng(0)
    photo, ref = (Photo(rng.integers(0, 256, (n, n, 3), dtype=np.uint8)) for n in (side, ref_side))
    steps = []
    upscaler = Upscaler(model, memory=budget * MIB, kernel=kernel)
    result = upscaler.run(photo, [ref], lambda phase, done, total: steps.append(phase))
    assert result.photo.rgb.shape == (4 * side, 4 * side, 3)
    with tempfile.TemporaryDirectory() as folder:
        draw(result, Path(folder) / "compare.png")
    print(f"{status('VmHWM') - baseline:.0f} {steps.count('search')} {steps.count('network')}")


if __name__ == "__main__":
    main()
