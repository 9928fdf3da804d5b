"""Train one stage from scratch: on machine labels in stage 1, on pseudo-labels and external clips after it."""


rule share_model:
    input:
        lambda w: f"results/{w.dataset}/{CONFIG.methods[w.method].start_from}/seed{w.seed}/stage1/{w.file}",
    output:
        "results/{dataset}/{method}/seed{seed}/stage1/{file}",
    log:
        "results/{dataset}/{method}/seed{seed}/stage1/logs/share_{file}.log",
    benchmark:
        "results/{dataset}/{method}/seed{seed}/stage1/benchmarks/share_{file}.tsv"
    wildcard_constraints:
        method=any_of(SHARING),
        file=any_of(SHARED_MODEL),
    localrule: True
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=100,
        runtime=5,
    params:
        method=lambda w: CONFIG.methods[w.method].start_from,
    message:
        "Stage 1 of {wildcards.method} is that of {params.method}: linking {wildcards.file}"
    shell:
        "ln --symbolic --relative --force --no-target-directory {input} {output} 2> {log}"


use rule share_model as share_scores with:
    wildcard_constraints:
        method=any_of(SHARING_SCORES),
        file=any_of(SHARED_SCORES),


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
        mem_mb=lambda w, input, attempt: attempt * (2500 + int(input.size_mb)),
        runtime=lambda w, attempt: attempt * 480,
        gpu=gpus,
    params:
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
    shell:
        "python -m asdpipe --log {log} train --settings {params.settings:q} --num-samples {params.num_samples} "
        "--stage {wildcards.stage} --seed {wildcards.seed} "
        "--clips {input.clips} --index {input.index} --samples {input.samples} {params.previous} "
        "--labels {output.labels} --weights {output.weights} --description {output.description} "
        "--history {output.history}"
