rule collect_metrics:
    input:
        summaries=get_summaries(),
        kernels=get_kernel_results(),
        code=CODE["collect-metrics"],
    output:
        metrics="results/metrics.json",
    log:
        f"logs/{PRESET}/collect_metrics.log",
    conda:
        "../envs/extracter.yaml"
    threads: 1
    params:
        version=get_version("collect-metrics"),
        kernels=lambda wildcards, input: [f"--kernel {path}" for path in input.kernels],
    shell:
        "extracter collect-metrics {input.summaries} {params.kernels} --out {output.metrics} 2>&1 | tee -i {log}"


rule collect_plots:
    input:
        logs=get_logs(),
        images=get_image_figures(),
        kernels=get_kernel_results(),
        code=CODE["collect-plots"],
    output:
        training="results/plots/training.csv",
        images="results/plots/images.csv",
        kernel_psnr="results/plots/kernel_psnr.csv",
        kernel_memory="results/plots/kernel_memory.csv",
    log:
        f"logs/{PRESET}/collect_plots.log",
    conda:
        "../envs/extracter.yaml"
    threads: 1
    params:
        version=get_version("collect-plots"),
        logs=lambda wildcards, input: [f"--log {path}" for path in input.logs],
        images=lambda wildcards, input: [f"--image {path}" for path in input.images],
        kernels=lambda wildcards, input: [f"--kernel {path}" for path in input.kernels],
        folder=subpath(output.training, parent=True),
    shell:
        "extracter collect-plots {params.logs} {params.images} {params.kernels} --out {params.folder} 2>&1 | tee -i {log}"


rule table_metrics:
    input:
        summaries=get_summaries(),
        code=CODE["table-metrics"],
    output:
        csv=report("results/tables/table1_metrics.csv", caption="../report/table1_metrics.rst", category="Tables"),
        md="results/tables/table1_metrics.md",
    log:
        f"logs/{PRESET}/table_metrics.log",
    conda:
        "../envs/extracter.yaml"
    threads: 1
    params:
        version=get_version("table-metrics"),
    shell:
        "extracter table-metrics {input.summaries} --out {output.csv} 2>&1 | tee -i {log}"


rule table_parameters:
    input:
        code=CODE["table-parameters"],
    output:
        csv=report("results/tables/table2_parameters.csv", caption="../report/table2_parameters.rst", category="Tables"),
        md="results/tables/table2_parameters.md",
        # Git brings the table into a fresh clone, but not this: there it is made again, since nothing else it is made
        # from would be missing.
        made=touch(f"results/{PRESET}/table2_parameters"),
    log:
        f"logs/{PRESET}/table_parameters.log",
    conda:
        "../envs/extracter.yaml"
    threads: 1
    params:
        version=get_version("table-parameters"),
    shell:
        "extracter table-parameters --out {output.csv} 2>&1 | tee -i {log}"


rule table_kernels:
    input:
        results=get_kernel_results(),
        code=CODE["table-kernels"],
    output:
        csv=report("results/tables/table3_kernels.csv", caption="../report/table3_kernels.rst", category="Tables"),
        md="results/tables/table3_kernels.md",
    log:
        f"logs/{PRESET}/table_kernels.log",
    conda:
        "../envs/extracter.yaml"
    threads: 1
    params:
        version=get_version("table-kernels"),
    shell:
        "extracter table-kernels {input.results} --out {output.csv} 2>&1 | tee -i {log}"


rule figure_comparison:
    input:
        images=expand("data/prepared/{preset}/{test}/manifest.json", preset=PRESET, test=TESTS),
        summaries=get_summaries(),
        code=CODE["figure-comparison"],
    output:
        figure=report("results/figures/comparison.png", caption="../report/comparison.rst", category="Figures"),
    log:
        f"logs/{PRESET}/figure_comparison.log",
    conda:
        "../envs/extracter.yaml"
    threads: 1
    params:
        version=get_version("figure-comparison"),
        images=lambda wildcards, input: [Path(manifest).parent for manifest in input.images],
        sr=f"results/{PRESET}/images",
    shell:
        "extracter figure-comparison {params.images} --sr {params.sr} --out {output.figure} 2>&1 | tee -i {log}"


rule figure_training:
    input:
        logs=get_logs(),
        code=CODE["figure-training"],
    output:
        figure=report("results/figures/training.png", caption="../report/training.rst", category="Figures"),
    log:
        f"logs/{PRESET}/figure_training.log",
    conda:
        "../envs/extracter.yaml"
    threads: 1
    params:
        version=get_version("figure-training"),
    shell:
        "extracter figure-training {input.logs} --out {output.figure} 2>&1 | tee -i {log}"


rule figure_kernels:
    input:
        results=get_kernel_results(),
        code=CODE["figure-kernels"],
    output:
        figure=report("results/figures/kernels.png", caption="../report/kernels.rst", category="Figures"),
    log:
        f"logs/{PRESET}/figure_kernels.log",
    conda:
        "../envs/extracter.yaml"
    threads: 1
    params:
        version=get_version("figure-kernels"),
    shell:
        "extracter figure-kernels {input.results} --out {output.figure} 2>&1 | tee -i {log}"


# What DVC's stages `tables` and `figures` ask for.
rule tabulated:
    input:
        get_tabulated(),


rule drawn:
    input:
        get_drawn(),
