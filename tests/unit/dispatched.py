"""What a computation would ask of a GPU, counted on the CPU by what reaches PyTorch's dispatcher."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode

# Operations whose result the host reads.
_READS = frozenset(
    ("_local_scalar_dense", "nonzero", "is_nonzero", "_unique2", "unique_consecutive", "masked_select", "equal")
)
# Those that start no kernel, besides views.
_FREE = frozenset(
    ("promote_types", "scalar_tensor", "detach", "empty", "new_empty", "empty_like", "empty_strided", "_unsafe_view")
)


class Counts(NamedTuple):
    """Operations that would start one or more kernels, and times at which the host would wait for the device."""

    launches: int
    waits: int


def count_dispatched(work: Callable[[], object]) -> Counts:
    """Run `work` once and count."""
    with _Counter() as counter:
        work()
    return Counts(counter.launches, counter.waits)


class _Counter(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.launches = self.waits = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        masked = name in ("index", "index_put", "index_put_") and any(
            isinstance(x, torch.Tensor) and x.dtype == torch.bool for x in args[1]
        )
        self.waits += masked or name in _READS
        self.launches += not func.is_view and name not in _FREE
        return func(*args, **(kwargs or {}))
