rule download:
    input:
        supplied=get_supplied,
    output:
        manifest="data/raw/{preset}/{set}/manifest.json",
    log:
        "logs/{preset}/download/{set}.log",
    conda:
        "../envs/extracter.yaml"
    threads: 1
    resources:
        # Another mirror brings the same bytes: it is no parameter, so that a change of it fetches nothing again.
        mirror=MIRROR,
    params:
        blocks=lambda wildcards: get_blocks(projection.download_keys(wildcards.set)),
        version=get_version("download"),
        folder=subpath(output.manifest, parent=True),
    shell:
        "extracter download {wildcards.set} --out {params.folder} --mirror={resources.mirror:q} --params {params.blocks:q} "
        "> {log} 2>&1"


rule prepare:
    input:
        raw=rules.download.output.manifest,
    output:
        manifest="data/prepared/{preset}/{set}/manifest.json",
    log:
        "logs/{preset}/prepare/{set}.log",
    conda:
        "../envs/extracter.yaml"
    threads: get_all_cores
    resources:
        mem_mb=get_memory(8),
        runtime=get_runtime(4),
    params:
        blocks=get_prepare_blocks,
        version=get_version("prepare"),
        raw=subpath(input.raw, parent=True),
        folder=subpath(output.manifest, parent=True),
    shell:
        "extracter prepare {wildcards.set} --raw {params.raw} --out {params.folder} --params {params.blocks:q} "
        "> {log} 2>&1"


if ABSENT:

    rule absent:
        output:
            manifest="data/{state}/{preset}/{absent}/manifest.json",
        log:
            "logs/{preset}/absent/{absent}_{state}.log",
        localrule: True
        conda:
            "../envs/extracter.yaml"
        threads: 1
        params:
            manifest='{"source": "none", "files": []}',
        shell:
            "echo {params.manifest:q} > {output.manifest} 2> {log}"
