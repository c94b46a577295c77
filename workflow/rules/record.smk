rule record:
    input:
        artefacts=get_artefacts(),
    output:
        stamp="results/{preset}/recorded",
    log:
        "logs/{preset}/record.log",
    conda:
        "../envs/extracter.yaml"
    threads: 1
    params:
        objection=get_objection(),
        version=get_version(*SOURCES),
    shell:
        "python workflow/scripts/record.py --objection={params.objection:q} --version {params.version} "
        "--stamp {output.stamp} "
        "{input.artefacts} > {log} 2>&1"
