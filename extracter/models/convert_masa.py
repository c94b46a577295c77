"""Released weights of MASA-SR, whose images are in BGR."""

import re
from pathlib import Path
from typing import Any

from torch import Tensor

from extracter.errors import UserError
from extracter.models.convert_keys import build, count_numbers, match_keys, save_converted
from extracter.models.masa import MASA

FIRST_KEY = "enc.conv_L1.weight"
_PARTS = {
    **{f"enc.conv_L{n + 1}": f"encoder.convs.{n}" for n in range(3)},
    **{f"enc.blk_L{n + 1}": f"encoder.blocks.{n}" for n in range(3)},
    **{f"decoder.conv_L{3 - n}": f"joins.{n}" for n in range(3)},
    **{f"decoder.blk_L{3 - n}": f"rises.{n}" for n in range(3)},
    **{f"decoder.blk_x{2**n}": f"bodies.{n}" for n in range(3)},
    "decoder.merge_warp_x1": "merge",
    "decoder.pAda.conv_shared.0": "adapt.shared",
    "decoder.pAda.conv_gamma": "adapt.gamma",
    "decoder.pAda.conv_beta": "adapt.beta",
    "decoder.conv_out": "tail",
    **{
        f"decoder.dram_x{2 * n + 2}.conv_{way}_{which}": f"aggregations.{n}.{way}s.{number}"
        for n in range(2)
        for way in ("down", "up")
        for number, which in enumerate("ab")
    },
    **{f"decoder.dram_x{2 * n + 2}.conv_cat": f"aggregations.{n}.merge" for n in range(2)},
}


def convert_masa(theirs: dict[str, Tensor], source: Path, out: Path) -> dict[str, Any]:
    """Write a checkpoint folder from `masa.pth` or `masa_rec.pth`.

    Returns:
        The configuration that was inferred from the names and shapes.

    Raises:
        UserError: the file holds other names or shapes.
    """
    names = list(theirs)
    config = {
        "features": theirs[FIRST_KEY].shape[0],
        "blocks": [
            count_numbers(names, f"{part}")
            for part in ("enc.blk_L1", "decoder.blk_L3", "decoder.blk_x1", "decoder.blk_x2", "decoder.blk_x4")
        ],
    }
    if not all(config["blocks"]):
        raise UserError(f"{source}: blocks are missing, so not MASA-SR's released file, or damaged: download it again")
    model = build(MASA, config, source)
    ours = match_keys(theirs, model.state_dict(), _rename, source)
    # Their first layer reads BGR and their last one writes it.
    ours["encoder.convs.0.weight"] = ours["encoder.convs.0.weight"].flip(1)
    for name in ("tail.weight", "tail.bias"):
        ours[name] = ours[name].flip(0)
    model.load_state_dict(ours)
    return save_converted(model, "masa", config, [source], out)


def _rename(name: str) -> str | None:
    part, _, kind = name.rpartition(".")
    block = re.fullmatch(r"(.+)\.(\d+)\.(conv[12])", part)
    if block and block[1] in _PARTS:
        return f"{_PARTS[block[1]]}.{block[2]}.{block[3]}.{kind}"
    return f"{_PARTS[part]}.{kind}" if part in _PARTS else None
