"""Released weights of DATSR, which may be used for research alone (CC BY-NC 4.0)."""

import re
from pathlib import Path
from typing import Any

from torch import Tensor

from extracter.models.convert_c2 import IN_LEVEL
from extracter.models.convert_keys import build, convert_matching, count_numbers, match_keys, part_of, save_converted
from extracter.models.datsr import DATSR

FIRST_KEY = "dyn_agg_restore.unet_head.weight"
# In the order in which the levels are passed.
_LEVELS = ("down_large", "down_medium", "up_small", "up_medium", "up_large")
_OUTSIDE = {
    "unet_head": "head",
    "down_tail_large": "downs.0",
    "down_tail_medium": "downs.1",
    "up_tail_small.0": "ups.0",
    "up_tail_medium.0": "ups.1",
    "up_tail_large.0": "tail.0",
    "up_tail_large.2": "tail.2",
    "content_extractor.conv_first": "content.0",
}
_IN_BODY = {"patch_embed.norm": "norm_in", "norm": "norm_out"}
# Tables that follow from the sizes of windows and images.
_CONSTANT = re.compile(r".*\.(relative_position_index|attn_mask)")


def convert_datsr(
    theirs: dict[str, Tensor], source: Path, beside: dict[Path, dict[str, Tensor]], out: Path
) -> dict[str, Any]:
    """Write a checkpoint folder; arguments, result and errors are those of `convert_c2`."""
    names = list(theirs)
    width = theirs[FIRST_KEY].shape[0]
    depth = count_numbers(names, "dyn_agg_restore.down_body_large.layers.0.residual_group.blocks")
    large = theirs.get("dyn_agg_restore.up_large_dyn_agg.weight")
    config = {
        "features": width // 2,
        "dfe_width": 64 if large is None else large.shape[0],
        "blocks": max(4 * depth, 2 * count_numbers(names, "content_extractor.body")),
    }
    model = build(DATSR, config, source)
    wanted = part_of(model, "content.", "head.", "levels.", "downs.", "ups.", "tail.")
    wanted = {name: tensor for name, tensor in wanted.items() if not _CONSTANT.fullmatch(name)}
    kept = {name: tensor for name, tensor in theirs.items() if not _CONSTANT.fullmatch(name)}
    ours = match_keys(kept, wanted, _rename, source)
    ours |= convert_matching(model, beside, source)
    model.load_state_dict(ours, strict=False)
    return save_converted(model, "datsr", config, [source, *beside], out)


def _rename(name: str) -> str | None:
    part, _, kind = name.rpartition(".")
    part = part.removeprefix("dyn_agg_restore.")
    if part in _OUTSIDE:
        return f"{_OUTSIDE[part]}.{kind}"
    block = re.fullmatch(r"content_extractor\.body\.(\d+)\.(conv[12])", part)
    if block:
        return f"content.{int(block[1]) + 2}.{block[2]}.{kind}"
    head = re.fullmatch(r"(down|up)_head_(large|medium|small)\.0", part)
    if head:
        return f"levels.{_LEVELS.index(f'{head[1]}_{head[2]}')}.head.{kind}"
    body = re.fullmatch(r"(down|up)_body_(large|medium|small)\.(.+)", part)
    if body:
        inside = _rename_in_body(body[3])
        return inside and f"levels.{_LEVELS.index(f'{body[1]}_{body[2]}')}.body.{inside}.{kind}"
    level = re.fullmatch(r"((?:down|up)_(?:large|medium|small))_(.+)", part)
    if level and level[2] in IN_LEVEL:
        return f"levels.{_LEVELS.index(level[1])}.{IN_LEVEL[level[2]]}.{kind}"
    return None


def _rename_in_body(part: str) -> str | None:
    """Our name of a module in a body of transformer blocks."""
    if part in _IN_BODY:
        return _IN_BODY[part]
    closing = re.fullmatch(r"layers\.(\d+)\.conv", part)
    if closing:
        return f"closings.{closing[1]}"
    block = re.fullmatch(r"layers\.(\d+)\.residual_group\.blocks\.(\d+)\.(norm1|norm2|attn|attn\.qkv|attn\.proj)", part)
    if block:
        return f"groups.{block[1]}.{block[2]}.{block[3]}"
    hidden = re.fullmatch(r"layers\.(\d+)\.residual_group\.blocks\.(\d+)\.mlp\.fc([12])", part)
    # Between the two layers there are an activation and dropout.
    return hidden and f"groups.{hidden[1]}.{hidden[2]}.mlp.{'0' if hidden[3] == '1' else '3'}"
