rule collect_metrics:
    input:
        summaries=get_summaries(),
        kernels=get_kernel_results(),
        levels=get_levels(["json"]),
    output:
        metrics="results/metrics.json",
    log:
        f"logs/{PRESET}/collect_metrics.log",
    conda:
        "../envs/extracter.yaml"
    threads: 1
    params:
        version=get_version("collect_metrics"),
        kernels=lambda wildcards, input: [f"--kernel {path}" for path in input.kernels],
        levels=lambda wildcards, input: [f"--level {path}" for path in input.levels],
    shell:
        "extracter collect-metrics {input.summaries} {params.kernels} {params.levels} --out {output.metrics} > {log} 2>&1"


rule collect_plots:
    input:
        logs=get_logs(),
        images=get_image_figures(),
        kernels=get_kernel_results(),
        levels=get_levels(["json"]),
    output:
        training="results/plots/training.csv",
        images="results/plots/images.csv",
        kernel_psnr="results/plots/kernel_psnr.csv",
        references="results/plots/references.csv",
    log:
        f"logs/{PRESET}/collect_plots.log",
    conda:
        "../envs/extracter.yaml"
    threads: 1
    params:
        version=get_version("collect_plots"),
        logs=lambda wildcards, input: [f"--log {path}" for path in input.logs],
        images=lambda wildcards, input: [f"--image {path}" for path in input.images],
        kernels=lambda wildcards, input: [f"--kernel {path}" for path in input.kernels],
        levels=lambda wildcards, input: [f"--level {path}" for path in input.levels],
        folder=subpath(output.training, parent=True),
    shell:
        "extracter collect-plots {params.logs} {params.images} {params.kernels} {params.levels} --out {params.folder} "
        "> {log} 2>&1"


rule table_metrics:
    input:
        summaries=get_summaries(),
    output:
        csv=report("results/tables/table1_metrics.csv", caption="../report/table1_metrics.rst", category="Tables"),
        md="results/tables/table1_metrics.md",
    log:
        f"logs/{PRESET}/table_metrics.log",
    conda:
        "../envs/extracter.yaml"
    threads: 1
    params:
        version=get_version("table_metrics"),
    shell:
        "extracter table-metrics {input.summaries} --out {output.csv} > {log} 2>&1"


rule table_parameters:
    output:
        csv=report("results/tables/table2_parameters.csv", caption="../report/table2_parameters.rst", category="Tables"),
        md="results/tables/table2_parameters.md",
        modules="results/tables/table2_modules.csv",
        modules_md="results/tables/table2_modules.md",
        # Git brings the table into a fresh clone, but not this: there it is made again, since nothing else it is made
        # from would be missing.
        made=touch(f"results/{PRESET}/table2_parameters"),
    log:
        f"logs/{PRESET}/table_parameters.log",
    conda:
        "../envs/extracter.yaml"
    threads: 1
    params:
        version=get_version("table_parameters"),
    shell:
        "extracter table-parameters --out {output.csv} --modules {output.modules} > {log} 2>&1"


rule table_kernels:
    input:
        results=get_kernel_results(),
    output:
        csv=report("results/tables/table3_kernels.csv", caption="../report/table3_kernels.rst", category="Tables"),
        md="results/tables/table3_kernels.md",
    log:
        f"logs/{PRESET}/table_kernels.log",
    conda:
        "../envs/extracter.yaml"
    threads: 1
    params:
        timings=f"results/{PRESET}/timings/kernels",
        measured=f"results/{PRESET}/measured/table3_kernels.csv",
        version=get_version("table_kernels"),
    shell:
        "extracter table-kernels {input.results} --out {output.csv} --timings {params.timings} "
        "--measured {params.measured} > {log} 2>&1"


if LEVEL_SETS:

    rule table_references:
        input:
            summaries=get_levels(["json"]),
        output:
            csv=report(
                "results/tables/table4_references.csv", caption="../report/table4_references.rst", category="Tables"
            ),
            md="results/tables/table4_references.md",
        log:
            f"logs/{PRESET}/table_references.log",
        localrule: True
        conda:
            "../envs/extracter.yaml"
        threads: 1
        params:
            version=get_version("table_references"),
        shell:
            "extracter table-references {input.summaries} --out {output.csv} > {log} 2>&1"


rule figure_comparison:
    input:
        images=expand("data/prepared/{preset}/{test}/manifest.json", preset=PRESET, test=TESTS),
        sr=get_images(),
    output:
        figure=report("results/figures/comparison.png", caption="../report/comparison.rst", category="Figures"),
    log:
        f"logs/{PRESET}/figure_comparison.log",
    conda:
        "../envs/extracter.yaml"
    threads: 1
    params:
        version=get_version("figure_comparison"),
        images=lambda wildcards, input: [Path(manifest).parent for manifest in input.images],
        folder=lambda wildcards, input: Path(input.sr[0]).parents[1],
    shell:
        "extracter figure-comparison {params.images} --sr {params.folder} --out {output.figure} > {log} 2>&1"


rule figure_training:
    input:
        logs=get_logs(),
    output:
        figure=report("results/figures/training.png", caption="../report/training.rst", category="Figures"),
    log:
        f"logs/{PRESET}/figure_training.log",
    conda:
        "../envs/extracter.yaml"
    threads: 1
    params:
        version=get_version("figure_training"),
    shell:
        "extracter figure-training {input.logs} --out {output.figure} > {log} 2>&1"


rule figure_kernels:
    input:
        results=get_kernel_results(),
    output:
        figure=report("results/figures/kernels.png", caption="../report/kernels.rst", category="Figures"),
    log:
        f"logs/{PRESET}/figure_kernels.log",
    conda:
        "../envs/extracter.yaml"
    threads: 1
    params:
        version=get_version("figure_kernels"),
    shell:
        "extracter figure-kernels {input.results} --out {output.figure} > {log} 2>&1"


rule map_origins:
    input:
        images="data/prepared/{preset}/{test}/manifest.json",
        checkpoint=get_checkpoint,
        baseline="results/{preset}/evaluation/bicubic/{test}.csv",
        figures="results/{preset}/evaluation/extracter-rec/{test}.csv",
    output:
        origins="results/{preset}/origins/{variant}/{test}.json",
    log:
        "logs/{preset}/map_origins/{variant}_{test}.log",
    conda:
        "../envs/extracter.yaml"
    threads: 1
    resources:
        gpu=get_gpus(1),
        mem_mb=get_memory(8),
        runtime=get_runtime(1),
    params:
        version=get_version("map_origins"),
        images=subpath(input.images, parent=True),
        checkpoint=lambda wildcards, input: Path(input.checkpoint[0]).parent,
    shell:
        "extracter map-origins --images {params.images} --checkpoint {params.checkpoint} --baseline {input.baseline} "
        "--figures {input.figures} --out {output.origins} > {log} 2>&1"


# The report holds times of this machine: it is no artefact that DVC records, and is made on demand by `make report`.
rule report:
    input:
        sets=expand("data/prepared/{preset}/{test}/manifest.json", preset=PRESET, test=TESTS),
        artefacts=get_artefacts(),
    output:
        page=f"results/{PRESET}/report/report.html",
    log:
        f"logs/{PRESET}/report.log",
    conda:
        "../envs/extracter.yaml"
    threads: 1
    params:
        results=subpath(output.page, ancestor=2),
        data=lambda wildcards, input: Path(input.sets[0]).parents[1],
        preset=PRESET,
        blocks=get_blocks(list(Preset.model_fields)),
        version=get_version("report"),
    shell:
        "extracter report --results {params.results} --data {params.data} --preset {params.preset} "
        "--params {params.blocks:q} > {log} 2>&1"


if "views" in TESTS:

    # The gallery of README.md, on demand: `snakemake --cores all --config preset=open --forcerun gallery -- gallery`.
    rule gallery:
        input:
            images=f"data/prepared/{PRESET}/views/manifest.json",
            model=expand("{folder}/{file}", folder=RELEASED, file=CHECKPOINT),
        output:
            figure="docs/figures/gallery.png",
        log:
            f"logs/{PRESET}/gallery.log",
        conda:
            "../envs/extracter.yaml"
        threads: 1
        params:
            pairs=lambda wildcards, input: [
                f"--original {Path(input.images).parent}/hr/{image}.png --ref {Path(input.images).parent}/ref/{ref}.png"
                for image, ref in GALLERY.items()
            ],
        shell:
            "extracter figure-reference {output.figure} {params.pairs} > {log} 2>&1"


# What DVC's stages `tables` and `figures` ask for.
rule tabulated:
    input:
        get_tabulated(),


rule drawn:
    input:
        get_drawn(),
