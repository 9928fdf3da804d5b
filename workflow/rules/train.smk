"""Train one stage from scratch: on machine labels in stage 1, on pseudo-labels and external clips after it."""


# A rule that is made of another one does not take over that it is local.
localrules:
    share_every_model,
    share_first_representatives,
    share_every_representatives,
    share_first_scores,
    share_first_external,


rule share_first_model:
    input:
        owned(FIRST_OWNER, *MODEL),
    output:
        expand("results/{{dataset}}/{{method}}/seed{{seed}}/stage1/{file}", file=MODEL),
    log:
        "results/{dataset}/{method}/seed{seed}/stage1/logs/share_model.log",
    benchmark:
        "results/{dataset}/{method}/seed{seed}/stage1/benchmarks/share_model.tsv"
    wildcard_constraints:
        method=any_of(SAME_START),
    localrule: True
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=100,
        runtime=5,
    params:
        folder=lambda w, output: Path(output[0]).parent,
    message:
        "{wildcards.method} on {wildcards.dataset}, seed {wildcards.seed}: linking what another method shares with it"
    shell:
        "ln --symbolic --relative --force --target-directory={params.folder} {input} 2> {log}"


# A method that only scores otherwise has no model of its own in any stage.
use rule share_first_model as share_every_model with:
    input:
        owned(OWNER, *MODEL),
    output:
        expand("{stage}/{file}", stage=STAGE, file=MODEL),
    log:
        f"{STAGE}/logs/share_every_model.log",
    benchmark:
        f"{STAGE}/benchmarks/share_every_model.tsv"
    wildcard_constraints:
        method=any_of(RESCORED),


rule train:
    input:
        unpack(training_inputs),
        clips="results/data/{dataset}/clips.parquet",
        index="results/data/{dataset}/waveforms.parquet",
        samples="results/data/{dataset}/waveforms.int16",
    output:
        labels=f"{STAGE}/labels.parquet",
        weights=f"{STAGE}/model.safetensors",
        description=f"{STAGE}/model.json",
        history=f"{STAGE}/training.csv",
    log:
        f"{STAGE}/logs/train.log",
    benchmark:
        f"{STAGE}/benchmarks/train.tsv"
    conda:
        "../../environment.yml"
    threads: 8
    resources:
        mem_mb=growing(2500, per_mb=1),
        # DCASE 2023 (5 GB) gets seven hours, its third attempt less than the day that many partitions allow.
        runtime=growing(60, per_mb=0.07),
        gpu=gpus,
    params:
        code=code("train"),
        settings=method_settings("labels", "network", "loss", "triplet", "training"),
        num_samples=num_samples,
        previous=lambda w, input: options(
            **{
                name: input[name]
                for name in ("pseudo_labels", "selected", "pool_index", "pool_samples")
                if name in input.keys()
            }
        ),
    message:
        "Training {wildcards.method} on {wildcards.dataset}, stage {wildcards.stage}, seed {wildcards.seed}"
    # exec: signals reach the training, which saves its state, also where bash is old.
    shell:
        "exec python -m asdpipe --log {log} train --settings {params.settings:q} --num-samples {params.num_samples} "
        "--stage {wildcards.stage} --seed {wildcards.seed} "
        "--clips {input.clips} --index {input.index} --samples {input.samples} {params.previous} "
        "--labels {output.labels} --weights {output.weights} --description {output.description} "
        "--history {output.history}"
