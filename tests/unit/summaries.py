"""Results of evaluations and kernel sweeps, written as the workflow writes them."""

import json
from pathlib import Path


def write(path: Path, content: dict) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def summary(folder: Path, variant: str, name: str, psnr: float, ssim: float, **changes) -> Path:
    content = {
        "variant": variant, "set": name, "stand_in": True, "images": 3, "references": "own", "psnr_y": psnr,
        "ssim_y": ssim, "vgg_weights": None, "bicubic_skip": None, **changes,
    }  # fmt: skip
    return write(folder / variant / f"{name}.json", content)


def kernel(folder: Path, name: str, side: int, method: str, *, fits=True, **changes) -> Path:
    content = {
        "set": name, "stand_in": True, "kernel": side, "method": method, "fits": fits,
        "psnr_y": 25.5 if fits else None, "ssim_y": 0.75 if fits else None,
        "memory_budget_gib": 1.0, **changes,
    }  # fmt: skip
    costs = {"seconds": 0.5 if fits else None, "peak_memory_mib": 321.0 if fits else None}
    write(folder / "timings" / f"{name}_k{side}_{method}.json", costs)
    return write(folder / f"{name}_k{side}_{method}.json", content)


def levels(folder: Path, variant: str, name: str, gains: dict[str, float], **changes) -> Path:
    figures = {level: {"images": 3, "gain": gain, "harmed": 1, "worst": gain - 1} for level, gain in gains.items()}
    over_bicubic = {"images": 3, "gain": 1.0, "worst": 0.5}
    content = {"variant": variant, "set": name, "stand_in": False, "over_bicubic": over_bicubic, "levels": figures}
    return write(folder / "levels" / variant / f"{name}.json", content | changes)
