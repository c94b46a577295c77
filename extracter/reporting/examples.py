"""The images that figures show, chosen by their figures and never by hand."""

from pathlib import Path

from extracter.files import read_csv

SYSTEM = "extracter-rec"  # whose gain over bicubic decides


def choose_examples(baseline: Path, figures: Path) -> dict[str, str]:
    """Choose the images of a test set with the largest, the median and the smallest gain.

    Args:
        baseline: CSV that `extracter evaluate` wrote for bicubic.
        figures: the same for the system whose gain decides.

    Returns:
        Names of images by role, each image once: `largest gain`, `median gain`, and `largest loss`, or `smallest gain`
        where no image loses. The median of an even number is the lower of the middle two.

    Raises:
        UserError: a file is missing or of another kind.
    """
    before, after = (
        read_csv(path, numbers=["psnr_y"], text=["image"]).set_index("image")["psnr_y"] for path in (baseline, figures)
    )
    gains = sorted((gain, name) for name, gain in (after - before).dropna().items())
    last = "largest loss" if gains and gains[0][0] < 0 else "smallest gain"
    chosen: dict[str, str] = {}
    for role, (_, name) in zip(
        ("largest gain", "median gain", last),
        (gains[-1], gains[(len(gains) - 1) // 2], gains[0]) if gains else (),
        strict=False,
    ):
        if name not in chosen.values():
            chosen[role] = name
    return chosen
