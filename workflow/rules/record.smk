rule record:
    input:
        artefacts=get_artefacts(),
        code=sorted(set().union(*CODE.values())),
    output:
        stamp="results/{preset}/recorded",
    log:
        "logs/{preset}/record.log",
    conda:
        "../envs/extracter.yaml"
    threads: 1
    params:
        objection=get_objection(),
        version=get_version(*CODE),
    shell:
        "python workflow/scripts/record.py --objection={params.objection:q} --version {params.version} "
        "--stamp {output.stamp} {input.code} 2>&1 | tee -i {log}"
