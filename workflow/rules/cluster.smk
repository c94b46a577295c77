# Where jobs run: on the GPUs of this machine, or on a cluster.

from cluster import count_gpus, find_slurm_problem, without_gpus

LOCAL_GPUS = count_gpus()

if workflow.is_main_process:
    # Jobs share the processor's cores, but not a GPU. A profile or --resources may set another limit.
    if LOCAL_GPUS and "gpu" not in workflow.global_resources:
        workflow.register_resource("gpu", LOCAL_GPUS)
    limit = workflow.global_resources.get("gpu")
    without_gpus(limit is not None and limit.value == 0)

    # Before the graph is built and any job is submitted.
    if "slurm_partition" in (workflow.resource_settings.default_resources or {}):
        problem = find_slurm_problem()
        if problem:
            sys.exit(problem)


def get_gpus(count):
    """GPUs that a job asks for: `count` of a cluster, of this machine as many as it has; none with `--resources gpu=0`."""
    if without_gpus():
        return 0
    return min(count, LOCAL_GPUS) if workflow.nodes is None else count
