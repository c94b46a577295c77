"""Choosing a device, with a `torch.cuda` that only pretends to have GPUs."""

import subprocess
import sys
import warnings
from types import SimpleNamespace

import pytest
import torch

from extracter import device as module
from extracter import memory
from extracter.device import choose_device, configure_torch, full_float32
from extracter.errors import UserError


@pytest.fixture
def gpus(monkeypatch):
    """Pretend so many GPUs of a compute capability that PyTorch is built for, or not."""

    def pretend(count: int, capability: tuple[int, int] = (9, 0), archs=("sm_75", "sm_90", "compute_90")) -> None:
        cuda = {
            "is_available": lambda: count > 0,
            "device_count": lambda: count,
            "current_device": lambda: 0,
            "get_device_capability": lambda index: capability,
            "get_arch_list": lambda: list(archs),
            "get_device_name": lambda index: "Card",
            "get_device_properties": lambda index: SimpleNamespace(uuid=f"test-{index}", total_memory=80 * memory.GIB),
            "memory_reserved": lambda device: memory.GIB,
            "empty_cache": lambda: None,
        }
        for name, value in cuda.items():
            monkeypatch.setattr(torch.cuda, name, value)

    monkeypatch.setattr(module, "_claims", {})
    return pretend


@pytest.mark.parametrize("name", ["auto", "cuda", "cuda:0"])
def test_cuda_has_an_index(gpus, name):
    gpus(1)
    assert choose_device(name) == torch.device("cuda", 0)


def test_names_that_are_refused(gpus):
    gpus(2)
    for name in ("gpu", "cuda:", "cuda:x", "cpu:0", ""):
        with pytest.raises(UserError, match="allowed are auto, cpu, cuda, cuda:N"):
            choose_device(name)
    with pytest.raises(UserError, match=r"--device cuda:2: there are 2 GPUs; the last one is cuda:1"):
        choose_device("cuda:2")


def test_auto_says_why_it_takes_the_cpu(gpus, monkeypatch, capsys):
    gpus(0)
    monkeypatch.setattr(module.shutil, "which", lambda name: None)
    assert choose_device("auto").type == "cpu"
    assert capsys.readouterr().err == ""  # there is no GPU to speak of

    monkeypatch.setattr(module.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(torch.version, "cuda", None)
    assert choose_device("auto").type == "cpu"
    assert "computing on the CPU: this PyTorch is built without CUDA" in capsys.readouterr().err

    def old_driver() -> bool:
        warnings.warn("CUDA initialization: The NVIDIA driver on your system is too old (found 11080).", stacklevel=2)
        return False

    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", old_driver)
    assert choose_device("auto").type == "cpu"
    assert "The NVIDIA driver on your system is too old" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"--device cuda: .*too old"):
        choose_device("cuda")


@pytest.mark.parametrize(
    ("capability", "archs", "works"),
    [
        ((9, 0), ("sm_80", "sm_90"), True),
        ((8, 9), ("sm_80", "sm_90"), True),  # machine code of the same generation
        ((12, 0), ("sm_90", "compute_90"), True),  # PTX
        ((7, 0), ("sm_75", "sm_80", "compute_90"), False),
        ((12, 0), ("sm_90",), False),
        ((10, 0), ("sm_100a",), True),
    ],
)
def test_a_card_without_kernels_is_not_taken(gpus, capsys, capability, archs, works):
    gpus(1, capability, archs)
    assert choose_device("auto").type == ("cuda" if works else "cpu")
    assert ("has compute capability" in capsys.readouterr().err) != works


def test_processes_side_by_side_take_different_gpus(gpus, tmp_path, monkeypatch):
    monkeypatch.setattr(module.tempfile, "gettempdir", lambda: str(tmp_path))
    gpus(2)
    # A process holds its lock until it ends; here another one holds that of the first GPU.
    path = tmp_path / f"extracter-{module.getpass.getuser()}-gpu-test-0.lock"
    code = "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.flock(f, fcntl.LOCK_EX); print(1, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        other.stdout.readline()
        assert choose_device("auto") == torch.device("cuda", 1)
        assert choose_device("auto") == torch.device("cuda", 1)  # its own, again
        other.communicate("\n")
    for lock in module._claims.values():
        lock.close()


def test_memory_is_limited_on_a_device_with_an_index(gpus, monkeypatch):
    gpus(1)
    limits = []

    def limit(fraction: float, device: torch.device) -> None:
        if device.index is None:  # as PyTorch does
            raise ValueError(f"Expected a torch.device with a specified index or an integer, but got:{device}")
        limits.append(fraction)

    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", limit)
    assert memory.limit_memory(choose_device("cuda"), 7.0) == 7.0
    assert limits == [pytest.approx(8 / 80)]
    assert memory.limit_memory(choose_device("cuda"), 100.0) == 80.0
    assert limits[1] == 1.0


def test_tf32_is_off_unless_asked_for():
    before = torch.are_deterministic_algorithms_enabled()
    try:
        for tf32 in (True, False):
            configure_torch(0, tf32=tf32)
            assert torch.backends.cudnn.allow_tf32 is torch.backends.cuda.matmul.allow_tf32 is tf32
            with full_float32():
                assert torch.backends.cudnn.allow_tf32 is torch.backends.cuda.matmul.allow_tf32 is False
            assert torch.backends.cudnn.allow_tf32 is tf32
        configure_torch(0, tf32=True)
        first, second = full_float32(), full_float32()  # of two threads
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert torch.backends.cudnn.allow_tf32 is False
        second.__exit__(None, None, None)
        assert torch.backends.cudnn.allow_tf32 is torch.backends.cuda.matmul.allow_tf32 is True
        configure_torch(0, deterministic=False)
        assert torch.backends.cudnn.benchmark
        assert not torch.are_deterministic_algorithms_enabled()
        configure_torch(0)
        assert not torch.backends.cudnn.benchmark
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(before)
