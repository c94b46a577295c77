rule evaluate:
    input:
        images="data/prepared/{preset}/{test}/manifest.json",
        checkpoint=get_checkpoint,
        code=CODE["evaluate"],
    output:
        figures="results/{preset}/evaluation/{variant}/{test}.csv",
        summary="results/{preset}/evaluation/{variant}/{test}.json",
        sr=directory("results/{preset}/images/{variant}/{test}"),
    log:
        "logs/{preset}/evaluate/{variant}_{test}.log",
    benchmark:
        "results/{preset}/benchmarks/evaluate/{variant}_{test}.tsv"
    conda:
        "../envs/extracter.yaml"
    threads: 1
    resources:
        gpu=GPUS,
    params:
        blocks=get_blocks(
            "seed", "model", "search", "evaluation.precision", "evaluation.compile", "evaluation.reuse_memory"
        ),
        version=get_version("evaluate"),
        images=subpath(input.images, parent=True),
        checkpoint=lambda wildcards, input: (
            f"--checkpoint {Path(input.checkpoint[0]).parent}" if input.checkpoint else ""
        ),
    shell:
        "extracter evaluate {wildcards.variant} --images {params.images} {params.checkpoint} --out {output.figures} "
        "--summary {output.summary} --sr {output.sr} --params {params.blocks:q} 2>&1 | tee -i {log}"


rule kernel_sweep:
    input:
        images="data/prepared/{preset}/{test}/manifest.json",
        checkpoint=expand("results/{{preset}}/checkpoints/extracter-rec/{file}", file=CHECKPOINT),
        code=CODE["kernel-sweep"],
    output:
        result="results/{preset}/kernels/{test}_k{kernel}_{method}.json",
    log:
        "logs/{preset}/kernel_sweep/{test}_k{kernel}_{method}.log",
    benchmark:
        "results/{preset}/benchmarks/kernel_sweep/{test}_k{kernel}_{method}.tsv"
    conda:
        "../envs/extracter.yaml"
    threads: 1
    resources:
        gpu=GPUS,
        mem_mb=int(1024 * (SETTINGS.evaluation.memory_budget_gib + 3)),
    params:
        blocks=get_blocks("seed", "model", "search", "evaluation.memory_budget_gib"),
        version=get_version("kernel-sweep"),
        images=subpath(input.images, parent=True),
        checkpoint=lambda wildcards, input: Path(input.checkpoint[0]).parent,
    shell:
        "extracter kernel-sweep --images {params.images} --checkpoint {params.checkpoint} --kernel {wildcards.kernel} "
        "--method {wildcards.method} --out {output.result} --params {params.blocks:q} 2>&1 | tee -i {log}"


# What DVC's stages `evaluate` and `kernels` ask for: which files these are depends on the parameters.
rule evaluated:
    input:
        get_summaries(),


rule swept:
    input:
        get_kernel_results(),
