"""Released weights of C2-Matching and AMSA: a restoration network, and the matcher beside it."""

import re
from pathlib import Path
from typing import Any

from torch import Tensor

from extracter.errors import UserError
from extracter.models.c2_matching import AMSA, C2Matching
from extracter.models.convert_keys import build, convert_matching, count_numbers, match_keys, part_of, save_converted

FIRST_KEY = "content_extractor.conv_first.weight"
_LEVELS = {"small": 0, "medium": 1, "large": 2}
IN_LEVEL = {
    "offset_conv1": "offsets.0",
    "offset_conv2": "offsets.2",
    "dyn_agg.conv_offset_mask": "offsets.4",
    "dyn_agg": "aggregate",
    "deform_conv.conv_offset_mask": "align_offsets",
    "deform_conv": "align",
}
_OUTSIDE = {"tail_small.0": "ups.0", "tail_medium.0": "ups.1", "tail_large.0": "tail.0", "tail_large.2": "tail.2"}


def convert_c2(
    theirs: dict[str, Tensor], source: Path, beside: dict[Path, dict[str, Tensor]], out: Path
) -> dict[str, Any]:
    """Write a checkpoint folder.

    Args:
        theirs: tensors of `c2_matching_restoration.pth`, its `_mse`, or AMSA's.
        source: that file.
        beside: tensors of `feature_extraction.pth`, and of torchvision's VGG19 where it is not to be fetched.
        out: checkpoint folder.

    Returns:
        The configuration that was inferred from the names and shapes.

    Raises:
        UserError: a file is missing, or holds other names or shapes.
    """
    names = list(theirs)
    large = theirs.get("dyn_agg_restore.large_dyn_agg.weight")
    if large is None:
        raise UserError(f"{source}: no key dyn_agg_restore.large_dyn_agg.weight, so not C2-Matching's nor AMSA's file")
    network = AMSA if any("_deform_conv." in name for name in names) else C2Matching
    config = {
        "features": theirs[FIRST_KEY].shape[0],
        "dfe_width": large.shape[0],
        "blocks": count_numbers(names, "content_extractor.body"),
    }
    model = build(network, config, source)
    wanted = part_of(model, "content.", "levels.", "ups.", "tail.")
    ours = match_keys(theirs, wanted, _rename, source)
    ours |= convert_matching(model, beside, source)
    model.load_state_dict(ours, strict=False)
    family = "amsa" if network is AMSA else "c2"
    return save_converted(model, family, config, [source, *beside], out)


def _rename(name: str) -> str | None:
    part, _, kind = name.rpartition(".")
    block = re.fullmatch(r"content_extractor\.body\.(\d+)\.(conv[12])", part)
    if part == "content_extractor.conv_first":
        return f"content.0.{kind}"
    if block:
        return f"content.{int(block[1]) + 2}.{block[2]}.{kind}"
    part = part.removeprefix("dyn_agg_restore.")
    if part in _OUTSIDE:
        return f"{_OUTSIDE[part]}.{kind}"
    level = re.fullmatch(r"(small|medium|large)_(.+)", part)
    if level and level[2] in IN_LEVEL:
        return f"levels.{_LEVELS[level[1]]}.{IN_LEVEL[level[2]]}.{kind}"
    body = re.fullmatch(r"(head|body)_(small|medium|large)\.(\d+)(\.conv[12])?", part)
    if body:
        inside = "head" if body[1] == "head" else f"body.{body[3]}{body[4]}"
        return f"levels.{_LEVELS[body[2]]}.{inside}.{kind}"
    return None
