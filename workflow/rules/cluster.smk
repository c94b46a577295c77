# Where jobs run: on the GPUs of this machine, or on a Slurm cluster.

from cluster import count_gpus, find_slurm_problem

# Jobs share the processor's cores, but not a GPU: a rule that computes asks for one, where this machine has any.
LOCAL_GPUS = count_gpus()
GPUS = min(LOCAL_GPUS, 1)

if workflow.is_main_process:
    # Without a limit two trainings would start on one GPU. A profile or --resources may set another one.
    if LOCAL_GPUS and "gpu" not in workflow.global_resources:
        workflow.register_resource("gpu", LOCAL_GPUS)

    # Before the graph is built and any job is submitted.
    if "slurm_partition" in (workflow.resource_settings.default_resources or {}):
        problem = find_slurm_problem()
        if problem:
            sys.exit(problem)
