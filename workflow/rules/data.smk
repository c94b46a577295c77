rule download:
    input:
        supplied=get_supplied,
        code=CODE["download"],
    output:
        manifest="data/raw/{preset}/{set}/manifest.json",
    log:
        "logs/{preset}/download/{set}.log",
    conda:
        "../envs/extracter.yaml"
    threads: 1
    params:
        blocks=get_download_blocks,
        version=get_version("download"),
        folder=subpath(output.manifest, parent=True),
    shell:
        "extracter download {wildcards.set} --out {params.folder} --params {params.blocks:q} 2>&1 | tee -i {log}"


rule prepare:
    input:
        raw=rules.download.output.manifest,
        code=CODE["prepare"],
    output:
        manifest="data/prepared/{preset}/{set}/manifest.json",
    log:
        "logs/{preset}/prepare/{set}.log",
    conda:
        "../envs/extracter.yaml"
    threads: get_all_cores
    params:
        blocks=lambda wildcards: get_blocks("seed", get_set_block(wildcards)),
        version=get_version("prepare"),
        raw=subpath(input.raw, parent=True),
        folder=subpath(output.manifest, parent=True),
    shell:
        "extracter prepare {wildcards.set} --raw {params.raw} --out {params.folder} --params {params.blocks:q} "
        "2>&1 | tee -i {log}"


if ABSENT:

    rule absent:
        output:
            manifest="data/{state}/{preset}/{absent}/manifest.json",
        log:
            "logs/{preset}/absent/{absent}_{state}.log",
        conda:
            "../envs/extracter.yaml"
        threads: 1
        params:
            manifest='{"source": "none", "files": []}',
        shell:
            "echo {params.manifest:q} > {output.manifest} 2> {log}"
