"""Convert released state dicts to checkpoints that compute what the authors' networks compute.

docs/checkpoints.md has tables of their keys and of the differences in structure.
"""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from extracter.errors import UserError
from extracter.models import convert_c2, convert_datsr, convert_masa
from extracter.models.convert_keys import build, count_numbers, match_keys, save_converted
from extracter.models.convert_srntt import convert_srntt
from extracter.models.extracter import Extracter
from extracter.models.gde import Gradient
from extracter.models.state_files import read_state
from extracter.models.ttsr import TTSR
from extracter.models.vgg import MEAN, STD
from extracter.search.search import SearchConfig

# Authors' module names mapped to ours. N stands for a block index; LAST for the convolution after the last block.
_SHALLOW = {"conv_head": "head", "RBs.N": "stage.N", "conv_tail": "stage.LAST"}
_CSFI = {
    **{f"SFE.{theirs}": f"ife.{ours}" for theirs, ours in _SHALLOW.items()},
    "conv12": "csfi.ups.0.conv",
    "conv23": "csfi.ups.1.conv",
    **{f"RB{i}{j}.N": f"csfi.stages.{i - 1}.{j - 1}.N" for i in (1, 2, 3) for j in range(1, i + 1)},
    **{f"conv{i}{j}_tail": f"csfi.stages.{i - 1}.{j - 1}.LAST" for i in (1, 2, 3) for j in range(1, i + 1)},
    "ex12.conv12": "csfi.exchanges.0.ups.0_1",
    "ex12.conv21": "csfi.exchanges.0.downs.1_0.0",
    **{f"ex12.conv_merge{n}": f"csfi.exchanges.0.merges.{n - 1}" for n in (1, 2)},
    "ex123.conv12": "csfi.exchanges.1.ups.0_1",
    "ex123.conv13": "csfi.exchanges.1.ups.0_2",
    "ex123.conv23": "csfi.exchanges.1.ups.1_2",
    "ex123.conv21": "csfi.exchanges.1.downs.1_0.0",
    "ex123.conv31_1": "csfi.exchanges.1.downs.2_0.0",
    "ex123.conv31_2": "csfi.exchanges.1.downs.2_0.2",
    "ex123.conv32": "csfi.exchanges.1.downs.2_1.0",
    **{f"ex123.conv_merge{n}": f"csfi.exchanges.1.merges.{n - 1}" for n in (1, 2, 3)},
    "merge_tail.conv13": "csfi.merge_ups.0",
    "merge_tail.conv23": "csfi.merge_ups.1",
    "merge_tail.conv_merge": "csfi.merge",
}
EXTRACTER = {
    **_CSFI,
    **{f"conv{n}{n}_head.N": f"csfi.fusions.{n - 1}.convs.N" for n in (1, 2, 3)},
    **{f"SFE_GRAD.{theirs}": f"gde.extractor.{ours}" for theirs, ours in _SHALLOW.items()},
    **{f"conv{name}_grad": f"gde.levels.{n}.head" for n, name in enumerate(("12", "23", "33"))},
    **{f"grad_{name}.N": f"gde.levels.{n}.stage.N" for n, name in enumerate(("12", "23", "33"))},
    "fuse": "fuse",
    "fuse_tail1": "tail.0",
    "fuse_tail2": "tail.1",
}
TTSR_KEYS = {
    **_CSFI,
    **{f"conv{n}{n}_head": f"csfi.fusions.{n - 1}.convs.0" for n in (1, 2, 3)},
    "merge_tail.conv_tail1": "tail.0",
    "merge_tail.conv_tail2": "tail.1",
}
# Prefixes of the names above.
_NETWORK = re.compile(r"^(?:SR|MainNet|CSFI|GDE)\.")
_EXTRACTOR = re.compile(r"(?:FE|LTE)\.slice\d\.(\d+\.(?:weight|bias))")
# A copy of the extractor that only the authors' training used.
_COPY = re.compile(r"LTE_copy\.")
# Constants that the authors' modules keep as weights: Sobel kernels, mean and deviation of ImageNet.
_SOBEL = re.compile(r"(?:.+\.)?[gG]radient\.weight_([hv])")
_SHIFT = re.compile(r"(?:FE|LTE)\.sub_mean\.(weight|bias)")
_HORIZONTAL = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])


def convert(
    source: Path,
    out: Path,
    *,
    beside: Sequence[Path] = (),
    kernel: int | None = None,
    gradient: Gradient | None = None,
) -> dict[str, Any]:
    """Write a checkpoint folder from released weights of EXTRACTER, TTSR, C2-Matching, AMSA, DATSR, MASA-SR or SRNTT.

    Args:
        source: see `read_state`; of SRNTT the .npz, see `read_arrays`.
        out: checkpoint folder to write.
        beside: further files, which C2-Matching, AMSA, DATSR and SRNTT need.
        kernel: side of a search patch, which the file does not tell; None means 6 for EXTRACTER, 3 for TTSR.
        gradient: range of the gradient density, if it is not the one inferred from the keys; see `infer`.

    Returns:
        The configuration that was inferred.

    Raises:
        UserError: the file is not a state dict, or a key is missing, unknown, or has a wrong shape.
    """
    source = Path(source)
    if source.suffix == ".npz":
        return convert_srntt(source, list(beside), out)
    theirs = read_state(source)
    if convert_datsr.FIRST_KEY in theirs:
        return convert_datsr.convert_datsr(theirs, source, {path: read_state(path) for path in beside}, out)
    if convert_c2.FIRST_KEY in theirs:
        return convert_c2.convert_c2(theirs, source, {path: read_state(path) for path in beside}, out)
    if convert_masa.FIRST_KEY in theirs:
        return convert_masa.convert_masa(theirs, source, out)
    network, config = infer(theirs, source)
    if kernel is not None:
        search = SearchConfig.of_kernel(kernel)
        config |= {"kernel": search.kernel, "stride": search.stride, "padding": search.padding}
    if gradient is not None and network is Extracter:
        config["gradient"] = gradient
    model: Any = build(network, config, source)
    model.load_state_dict(translate(theirs, model, source))
    return save_converted(model, network.__name__.lower(), config, [source], out)


def infer(theirs: dict[str, Tensor], source: Path) -> tuple[type[Extracter] | type[TTSR], dict[str, Any]]:
    """Infer network and configuration from a state dict.

    The keys give the numbers of blocks and u. The rest follows from the version of the authors' code that used these
    keys: `SR.` has a direct search and averages over the patches that overlap; `CSFI.`, `GDE.` and `MainNet.` have a
    two-stage search with repetitions and averages over nine patches. A gradient module with weights normalises the
    gradient density. One without uses it as it is: of LR in [0, 1] in the current code, whose keys are `SR.`, and of LR
    in [0, 255] in earlier code.

    Raises:
        UserError: the state dict is neither of EXTRACTER nor of TTSR.
    """
    names = {_NETWORK.sub("", name): tensor for name, tensor in theirs.items()}
    blocks = partial(count_numbers, list(names))
    head = names.get("SFE.conv_head.weight")
    first = next((x for key, x in theirs.items() if re.fullmatch(r"(?:FE|LTE)\.slice1\.0\.weight", key)), None)
    if head is None or first is None:
        wanted = "SFE.conv_head.weight" if head is None else "FE.slice1.0.weight or LTE.slice1.0.weight"
        raise UserError(
            f"{source}: no key {wanted}, and it is no released file of another system either; its first keys are "
            f"{', '.join(list(theirs)[:3])}. `extracter convert --help` names the files that can be converted"
        )
    csfi = [blocks("RB11"), blocks("RB22"), blocks("RB33")]
    common = {"features": head.shape[0], "dfe_width": first.shape[0]}
    if "conv11_head.weight" in names:
        return TTSR, {**common, "blocks": [blocks("SFE.RBs"), *csfi], "constant_coverage": True}
    early = not any(name.startswith("SR.") for name in theirs)
    gradient = "bytes" if early else "unit"
    if any(_SOBEL.fullmatch(name) for name in theirs):
        gradient = "normalised"
    return Extracter, {
        **common,
        "ife_blocks": blocks("SFE.RBs"),
        "gfe_blocks": blocks("SFE_GRAD.RBs"),
        "csfi_blocks": csfi,
        "gde_blocks": [blocks("grad_12"), blocks("grad_23"), blocks("grad_33")],
        "textures": blocks("conv11_head"),
        "strategy": "two_stage" if early else "direct",
        "repeats": early,
        "constant_coverage": early,
        "gde_closing": False,
        "gradient": gradient,
    }


def explain_gradient(config: dict[str, Any]) -> str | None:
    """Say why `convert` took the range of the gradient density that it took, if the file leaves a doubt.

    Args:
        config: what `convert` returned, with no `gradient` given to it.
    """
    if config.get("gradient") != "unit":
        return None
    return (
        "gradient: unit was taken because the keys begin with SR. and hold no weights of a gradient module, as in the "
        "authors' current code, which takes the gradient of LR in [0, 1]; a snapshot of January 2024 has the same keys "
        "and takes it of LR in [0, 255]: for weights of that one give --gradient bytes; docs/checkpoints.md shows how "
        "to tell them apart by one image"
    )


def translate(theirs: dict[str, Tensor], model: Extracter | TTSR, source: Path) -> dict[str, Tensor]:
    """Rename the tensors to the names of our networks.

    Raises:
        UserError: keys are missing, unknown, or have a wrong shape; the message names them.
    """
    wanted = model.state_dict()
    table = EXTRACTER if isinstance(model, Extracter) else TTSR_KEYS

    def rename(name: str) -> str | None:
        found = _EXTRACTOR.fullmatch(name)
        return f"dfe.features.{found[1]}" if found else _rename(_NETWORK.sub("", name), table, wanted)

    kept = {name: x for name, x in theirs.items() if not (_is_constant(name, x, source) or _COPY.match(name))}
    ours = match_keys(kept, wanted, rename, source)
    if "fuse.weight" in ours:
        # The authors concatenate x_TT and x_3g in the other order.
        x_tt, x_3g = ours["fuse.weight"].chunk(2, dim=1)
        ours["fuse.weight"] = torch.cat((x_3g, x_tt), 1)
    return ours


def _rename(name: str, table: dict[str, str], wanted: dict[str, Tensor]) -> str | None:
    """Return our name for a key, or None."""
    part, _, kind = name.rpartition(".")
    suffix = kind
    inside = re.fullmatch(r"(.+)\.(conv[12])", part)  # of a residual block
    if inside and part not in table:
        part, suffix = inside[1], f"{inside[2]}.{kind}"
    number = re.fullmatch(r"(.+)\.(\d+)", part)
    if part in table:
        target = table[part]
    elif number and f"{number[1]}.N" in table:
        target = table[f"{number[1]}.N"].replace("N", number[2])
    else:
        return None
    if target.endswith(".LAST"):
        stage = target.removesuffix("LAST")
        target = stage + str(max(int(key[len(stage) :].split(".")[0]) for key in wanted if key.startswith(stage)))
    return f"{target}.{suffix}"


def _is_constant(name: str, tensor: Tensor, source: Path) -> bool:
    """Return whether a key is a constant that is built into our networks.

    Raises:
        UserError: the constant has another value, with which our network would compute something else.
    """
    sobel, shift = _SOBEL.fullmatch(name), _SHIFT.fullmatch(name)
    if sobel:
        value = tensor.float().reshape(-1)
        expected = (_HORIZONTAL if sobel[1] == "h" else _HORIZONTAL.mT).reshape(-1)
        same = value.shape == expected.shape and (torch.equal(value, expected) or torch.equal(value, -expected))
    elif shift:
        mean, std = torch.tensor(MEAN), torch.tensor(STD)
        expected = torch.diag(1 / std).view(3, 3, 1, 1) if shift[1] == "weight" else -mean / std
        same = tensor.shape == expected.shape and torch.allclose(tensor.float(), expected, atol=1e-5)
    else:
        return False
    if not same:
        raise UserError(f"{source}: {name} is not the constant it was in the authors' code; download the file again")
    return True
