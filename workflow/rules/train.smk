# `exec` leaves no shell between Snakemake and a training: a cluster that ends a job signals each of its processes, the
# shell would end at once, and the training could not save its state.


rule train_match:
    input:
        pairs="data/prepared/{preset}/train/manifest.json",
    output:
        config="results/{preset}/checkpoints/matcher/config.json",
        weights="results/{preset}/checkpoints/matcher/model.safetensors",
        training="results/{preset}/checkpoints/matcher/training.json",
        log="results/{preset}/checkpoints/matcher/train_log.csv",
    log:
        "logs/{preset}/train_match/matcher.log",
    benchmark:
        "results/{preset}/benchmarks/train_match/matcher.tsv"
    conda:
        "../envs/extracter.yaml"
    threads: get_training_threads
    resources:
        # What changes no result is no parameter, or a change of it would train again.
        checkpoint_every=EVERY,
        gpu=get_gpus(1),
        mem_mb=get_memory(16),
        runtime=get_runtime(72),
    params:
        blocks=get_blocks(projection.match_keys()),
        version=get_version("train_match"),
        state=f"results/{{preset}}/state/matcher.{get_version('train_match')}.pt",
        pairs=subpath(input.pairs, parent=True),
        folder=subpath(output.config, parent=True),
    shell:
        "exec extracter train-match --pairs {params.pairs} --out {params.folder} --state {params.state} "
        "--checkpoint-every {resources.checkpoint_every} --timings results/{wildcards.preset}/timings/train_match/matcher.json "
        "--params {params.blocks:q} > {log} 2>&1"


rule train_rec:
    input:
        pairs="data/prepared/{preset}/train/manifest.json",
        matcher=get_matcher,
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
        # What changes no result is no parameter, or a change of it would train again.
        checkpoint_every=EVERY,
        devices=DEVICES,
        machines=NODES,
        gpu=get_gpus(DEVICES),
        mem_mb=get_memory(16),
        runtime=get_runtime(72),
    params:
        blocks=lambda wildcards: get_blocks(projection.train_keys(wildcards.family, "rec")),
        version=get_version("train_rec"),
        # A state is resumed only by the sources that began it; rule `record` removes those that are complete.
        state=f"results/{{preset}}/state/{{family}}-rec.{get_version('train_rec')}.pt",
        pairs=subpath(input.pairs, parent=True),
        matcher=lambda wildcards, input: f"--matcher {Path(input.matcher[0]).parent}" if input.matcher else "",
        folder=subpath(output.config, parent=True),
    shell:
        "exec extracter train-rec {wildcards.family} --pairs {params.pairs} {params.matcher} --out {params.folder} "
        "--state {params.state} --checkpoint-every {resources.checkpoint_every} --devices {resources.devices} --nodes {resources.machines} "
        "--timings results/{wildcards.preset}/timings/train_rec/{wildcards.family}.json "
        "--params {params.blocks:q} > {log} 2>&1"


rule train_full:
    input:
        pairs=rules.train_rec.input.pairs,
        config=rules.train_rec.output.config,
        weights=rules.train_rec.output.weights,
        training=rules.train_rec.output.training,
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
        # What changes no result is no parameter, or a change of it would train again.
        checkpoint_every=EVERY,
        devices=DEVICES,
        machines=NODES,
        gpu=get_gpus(DEVICES),
        mem_mb=get_memory(16),
        runtime=get_runtime(72),
    params:
        blocks=lambda wildcards: get_blocks(projection.train_keys(wildcards.family, "full")),
        version=get_version("train_full"),
        state=f"results/{{preset}}/state/{{family}}.{get_version('train_full')}.pt",
        pairs=subpath(input.pairs, parent=True),
        start=subpath(input.config, parent=True),
        folder=subpath(output.config, parent=True),
    shell:
        "exec extracter train-full {wildcards.family} --pairs {params.pairs} --start {params.start} --out {params.folder} "
        "--state {params.state} --checkpoint-every {resources.checkpoint_every} --devices {resources.devices} --nodes {resources.machines} "
        "--timings results/{wildcards.preset}/timings/train_full/{wildcards.family}.json "
        "--params {params.blocks:q} > {log} 2>&1"
