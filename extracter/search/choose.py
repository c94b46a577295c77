"""Which search to run: exact where that takes a second or two, else approximate."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from extracter.search.search import SearchConfig

SearchName = Literal["exact", "fast", "auto"]
# Multiply-adds of an exact search that take about two seconds on one device: two CPU cores, or one data-centre GPU.
_EXACT = {"cpu": 2**37, "cuda": 2**45}


def choose_search(
    config: SearchConfig,
    wanted: SearchName,
    channels: int,
    query: tuple[int, int],
    references: Sequence[tuple[int, int]],
    device: str,
) -> SearchConfig:
    """The configuration with the method that the sizes ask for.

    Args:
        config: patches with k = 3s and p = s, of which `method` is replaced.
        wanted: exact; fast, which is `approximate`; or auto, which is exact as long as that takes a second or two.
        channels: of the deepest features.
        query: height and width of the query's features: those of LR.
        references: of each reference's features: a quarter of its sides.
        device: cpu or cuda.

    Example:
        >>> choose_search(SearchConfig(3, 1, 1), "auto", 64, (128, 128), [(128, 128)], "cpu").method
        'blocks'
        >>> choose_search(SearchConfig(3, 1, 1), "auto", 64, (750, 1000), [(750, 1000)], "cpu").method
        'approximate'
    """
    queries, *keys = (
        config.count(config.padded(height)) * config.count(config.padded(width))
        for height, width in (query, *references)
    )
    multiply_adds = queries * sum(keys) * channels * config.stride**2
    exact = wanted == "exact" or (wanted == "auto" and multiply_adds <= _EXACT.get(device, _EXACT["cpu"]))
    return replace(config, method="blocks" if exact else "approximate")
