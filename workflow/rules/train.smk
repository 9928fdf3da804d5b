"""Train one stage from scratch, and embed the clips of each split with it."""


rule train:
    input:
        unpack(planned(PLAN.train)),
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
        mem_mb=growing(training_mb, per_mb=1),
        runtime=training_minutes,
        gpu=gpus,
    params:
        code=code("train"),
        settings=settings("train"),
        num_samples=planned(PLAN.num_samples),
        files=given,
    message:
        "Training {wildcards.method} on {wildcards.dataset}, stage {wildcards.stage}, seed {wildcards.seed}, log: {log}"
    # exec: signals reach the training, which saves its state, also where bash is old.
    shell:
        "exec python -m asdpipe --log {log} step train --settings {params.settings:q} "
        "--num-samples {params.num_samples} --stage {wildcards.stage} --seed {wildcards.seed} {params.files} "
        "--labels {output.labels} --weights {output.weights} --description {output.description} "
        "--history {output.history}"


rule embed:
    input:
        unpack(planned(PLAN.embed)),
    output:
        embeddings=f"{STAGE}/embeddings/{{split}}.parquet",
    log:
        f"{STAGE}/logs/embed_{{split}}.log",
    benchmark:
        f"{STAGE}/benchmarks/embed_{{split}}.tsv"
    wildcard_constraints:
        split="train|test|supplemental|calibration",
    conda:
        "../../environment.yml"
    threads: 4
    resources:
        mem_mb=growing(embedding_mb, per_mb=1),
        runtime=growing(30, per_mb=0.01),
        gpu=gpus,
    params:
        code=code("embed"),
        settings=settings("embed"),
        num_samples=planned(PLAN.num_samples),
        files=given,
    message:
        "Embedding the {wildcards.split} clips of {wildcards.dataset} with {wildcards.method}, stage {wildcards.stage}, "
        "seed {wildcards.seed}, log: {log}"
    shell:
        "python -m asdpipe --log {log} step embed --num-samples {params.num_samples} {params.files} "
        "--settings {params.settings:q} --embeddings {output.embeddings}"
