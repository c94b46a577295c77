# A set is evaluated by one job, or in parts by as many jobs as `evaluation.parts` says and then put together.
scattergather:
    images=PARTS,


if PARTS == 1:

    rule evaluate:
        input:
            images="data/prepared/{preset}/{test}/manifest.json",
            checkpoint=get_checkpoint,
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
            gpu=get_gpus(1),
            mem_mb=get_memory(8),
            runtime=get_runtime(4),
        params:
            blocks=lambda wildcards: get_blocks(projection.evaluate_keys(wildcards.variant)),
            version=get_version("evaluate"),
            images=subpath(input.images, parent=True),
            checkpoint=lambda wildcards, input: (
                f"--checkpoint {Path(input.checkpoint[0]).parent}" if input.checkpoint else ""
            ),
        shell:
            "extracter evaluate {wildcards.variant} --images {params.images} {params.checkpoint} --out {output.figures} "
            "--summary {output.summary} --sr {output.sr} "
            "--timings results/{wildcards.preset}/timings/evaluate/{wildcards.variant}/{wildcards.test}.csv "
            "--params {params.blocks:q} > {log} 2>&1"

else:

    rule evaluate_part:
        input:
            images="data/prepared/{preset}/{test}/manifest.json",
            checkpoint=get_checkpoint,
        output:
            folder=temp(directory("results/{preset}/parts/{variant}/{test}/{scatteritem}")),
        log:
            "logs/{preset}/evaluate/{variant}_{test}_{scatteritem}.log",
        benchmark:
            "results/{preset}/benchmarks/evaluate/{variant}_{test}_{scatteritem}.tsv"
        conda:
            "../envs/extracter.yaml"
        threads: 1
        resources:
            gpu=get_gpus(1),
            mem_mb=get_memory(8),
            runtime=get_runtime(4),
        params:
            blocks=lambda wildcards: get_blocks(projection.evaluate_keys(wildcards.variant)),
            version=get_version("evaluate"),
            images=subpath(input.images, parent=True),
            checkpoint=lambda wildcards, input: (
                f"--checkpoint {Path(input.checkpoint[0]).parent}" if input.checkpoint else ""
            ),
        shell:
            "extracter evaluate {wildcards.variant} --images {params.images} {params.checkpoint} "
            "--part {wildcards.scatteritem} --out {output.folder}/images.csv --summary {output.folder}/summary.json "
            "--sr {output.folder}/sr --timings {output.folder}/timings.csv --params {params.blocks:q} > {log} 2>&1"

    rule evaluate:
        input:
            parts=gather.images("results/{{preset}}/parts/{{variant}}/{{test}}/{scatteritem}"),
        output:
            figures="results/{preset}/evaluation/{variant}/{test}.csv",
            summary="results/{preset}/evaluation/{variant}/{test}.json",
            sr=directory("results/{preset}/images/{variant}/{test}"),
        log:
            "logs/{preset}/evaluate/{variant}_{test}.log",
        localrule: True
        conda:
            "../envs/extracter.yaml"
        threads: 1
        params:
            version=get_version("evaluate"),
        shell:
            "extracter merge-parts {input.parts} --out {output.figures} --summary {output.summary} --sr {output.sr} "
            "--timings results/{wildcards.preset}/timings/evaluate/{wildcards.variant}/{wildcards.test}.csv > {log} 2>&1"


rule evaluate_levels:
    input:
        images="data/prepared/{preset}/{test}/manifest.json",
        checkpoint=get_checkpoint,
    output:
        figures="results/{preset}/levels/{variant}/{test}.csv",
        summary="results/{preset}/levels/{variant}/{test}.json",
    log:
        "logs/{preset}/evaluate_levels/{variant}_{test}.log",
    benchmark:
        "results/{preset}/benchmarks/evaluate_levels/{variant}_{test}.tsv"
    conda:
        "../envs/extracter.yaml"
    threads: 1
    resources:
        gpu=get_gpus(1),
        mem_mb=get_memory(8),
        runtime=get_runtime(8),
    params:
        blocks=lambda wildcards: get_blocks(projection.level_keys(wildcards.variant)),
        version=get_version("evaluate_levels"),
        images=subpath(input.images, parent=True),
        checkpoint=lambda wildcards, input: Path(input.checkpoint[0]).parent,
    shell:
        "extracter evaluate-levels {wildcards.variant} --images {params.images} --checkpoint {params.checkpoint} "
        "--out {output.figures} --summary {output.summary} --params {params.blocks:q} > {log} 2>&1"


rule kernel_sweep:
    input:
        images="data/prepared/{preset}/{test}/manifest.json",
        checkpoint=expand("results/{{preset}}/checkpoints/extracter-rec/{file}", file=CHECKPOINT),
    output:
        result="results/{preset}/kernels/{test}/{test}_k{kernel}_{method}.json",
    log:
        "logs/{preset}/kernel_sweep/{test}_k{kernel}_{method}.log",
    benchmark:
        "results/{preset}/benchmarks/kernel_sweep/{test}_k{kernel}_{method}.tsv"
    conda:
        "../envs/extracter.yaml"
    threads: 1
    resources:
        gpu=get_gpus(1),
        mem_mb=get_memory(SETTINGS.evaluation.memory_budget_gib + 3),
        runtime=get_runtime(4),
    params:
        blocks=get_blocks(projection.kernel_keys()),
        version=get_version("kernel_sweep"),
        images=subpath(input.images, parent=True),
        checkpoint=lambda wildcards, input: Path(input.checkpoint[0]).parent,
    shell:
        "extracter kernel-sweep --images {params.images} --checkpoint {params.checkpoint} --kernel {wildcards.kernel} "
        "--method {wildcards.method} --out {output.result} "
        "--timings results/{wildcards.preset}/timings/kernels/{wildcards.test}_k{wildcards.kernel}_{wildcards.method}.json "
        "--params {params.blocks:q} > {log} 2>&1"


# What DVC's stages `kernels` ask for: which files these are depends on the parameters.
for test in KERNEL_SETS:

    rule:
        name:
            f"swept_{test}"
        input:
            get_kernel_results([test]),
