"""The child process of `extracter kernel-sweep`: runs the network on a test set under a memory limit.

`python -m extracter.evaluation.kernel_sweep_worker JOB`, JOB being the JSON that
`extracter.evaluation.kernel_sweep` writes, which also reads the lines printed here.
"""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from extracter.confined import run_job, say
from extracter.data.datasets import TestSet
from extracter.device import configure_torch
from extracter.evaluation.evaluate import load_network, run_network
from extracter.memory import PeakMemory, is_allocation_failure, limit_memory


def run(job: dict) -> None:
    """Load, warm up, limit_memory, super-resolve; SR images are left as arrays in the folder `job["sr"]`.

    `job["budget_gib"]` None sets no limit; `job["only"]` is the name of the one image to run, or None.
    """
    configure_torch(0)
    device = torch.device(job["device"])
    network = load_network(Path(job["checkpoint"]), None, device)
    assert network.search is not None, "Extracter has one"
    search = network.search.with_kernel(job["kernel"])
    network.search = replace(search, method=job["method"], memory=job["memory"])
    # Threads, code paths and library handles that a first run sets up are the baseline's, not the budget's.
    small, tiny = torch.zeros(1, 3, 64, 64, device=device), torch.zeros(1, 3, 16, 16, device=device)
    with torch.inference_mode():
        network(tiny, small, small, small)
    memory = PeakMemory(device)
    if job["budget_gib"] is not None:
        say(confined=limit_memory(device, job["budget_gib"]))
    seconds, peaks = [], []
    for inputs in TestSet(Path(job["images"])):
        if job["only"] not in (None, inputs.name):
            continue
        memory.reset()
        start = time.perf_counter()
        try:
            sr = run_network(network, inputs, device, job["precision"])
        except Exception as error:
            if is_allocation_failure(error):
                say(fits=False)
                return
            # oneDNN and cuDNN have words such as "could not create a primitive" for this cause and for any other.
            say(failed=" ".join(str(error).split()), image=inputs.name)
            raise
        seconds.append(time.perf_counter() - start)
        peaks.append(memory.read())
        np.save(Path(job["sr"]) / f"{inputs.name}.npy", sr)
        say(done=len(seconds))
    say(fits=True, seconds=seconds, peak_memory_mib=peaks)


if __name__ == "__main__":
    run_job(run)
