rule train_rec:
    input:
        pairs="data/prepared/{preset}/train/manifest.json",
        code=CODE["train-rec"],
    output:
        config="results/{preset}/checkpoints/{family}-rec/config.json",
        weights="results/{preset}/checkpoints/{family}-rec/model.safetensors",
        training="results/{preset}/checkpoints/{family}-rec/training.json",
        log="results/{preset}/checkpoints/{family}-rec/train_log.csv",
    log:
        "logs/{preset}/train_rec/{family}.log",
    benchmark:
        "results/{preset}/benchmarks/train_rec/{family}.tsv"
    conda:
        "../envs/extracter.yaml"
    threads: get_training_threads
    resources:
        gpu=GPUS,
    params:
        blocks=get_training_blocks(),
        version=get_version("train-rec"),
        # Resumed only by the sources that began it.
        state=f"results/{{preset}}/state/{{family}}-rec.{get_version('train-rec')}.pt",
        pairs=subpath(input.pairs, parent=True),
        folder=subpath(output.config, parent=True),
    shell:
        "extracter train-rec {wildcards.family} --pairs {params.pairs} --out {params.folder} --state {params.state} "
        "--params {params.blocks:q} 2>&1 | tee -i {log}"


rule train_full:
    input:
        pairs=rules.train_rec.input.pairs,
        config=rules.train_rec.output.config,
        weights=rules.train_rec.output.weights,
        training=rules.train_rec.output.training,
        code=CODE["train-full"],
    output:
        config="results/{preset}/checkpoints/{family}/config.json",
        weights="results/{preset}/checkpoints/{family}/model.safetensors",
        training="results/{preset}/checkpoints/{family}/training.json",
        log="results/{preset}/checkpoints/{family}/train_log.csv",
    log:
        "logs/{preset}/train_full/{family}.log",
    benchmark:
        "results/{preset}/benchmarks/train_full/{family}.tsv"
    conda:
        "../envs/extracter.yaml"
    threads: get_training_threads
    resources:
        gpu=GPUS,
    params:
        blocks=get_training_blocks(),
        version=get_version("train-full"),
        state=f"results/{{preset}}/state/{{family}}.{get_version('train-full')}.pt",
        pairs=subpath(input.pairs, parent=True),
        start=subpath(input.config, parent=True),
        folder=subpath(output.config, parent=True),
    shell:
        "extracter train-full {wildcards.family} --pairs {params.pairs} --start {params.start} --out {params.folder} "
        "--state {params.state} --params {params.blocks:q} 2>&1 | tee -i {log}"
