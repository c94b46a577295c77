from snakemake.utils import min_version

min_version("9.27")


include: "workflow/rules/params.smk"


configfile: "params.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/cluster.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/record.smk"


# Seconds of work each, some with the network or the repository: on a cluster they run where Snakemake does.
localrules:
    all,
    download,
    collect_metrics,
    collect_plots,
    table_metrics,
    table_parameters,
    table_kernels,
    report,
    figure_comparison,
    figure_training,
    figure_kernels,
    tabulated,
    drawn,
    record,


rule all:
    default_target: True
    input:
        get_known_artefacts,
        f"results/{PRESET}/recorded",
