from snakemake.utils import min_version

min_version("9.27")


include: "workflow/rules/params.smk"


configfile: "params.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/record.smk"


localrules:
    all,


rule all:
    default_target: True
    input:
        get_known_artefacts,
        f"results/{PRESET}/recorded",
