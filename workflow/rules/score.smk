"""Representatives, anomaly scores and thresholds; scores of the external clips."""


rule score:
    input:
        clips="results/data/{dataset}/clips.parquet",
        embeddings=f"{STAGE}/embeddings.parquet",
    output:
        representatives=f"{STAGE}/representatives.parquet",
        scores=f"{STAGE}/scores.parquet",
        thresholds=f"{STAGE}/thresholds.parquet",
    log:
        f"{STAGE}/logs/score.log",
    benchmark:
        f"{STAGE}/benchmarks/score.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=lambda w, attempt: attempt * 2000,
        runtime=lambda w, attempt: attempt * 30,
    params:
        settings=method_settings("kind", "inference"),
    message:
        "Scoring {wildcards.dataset} with {wildcards.method}, stage {wildcards.stage}, seed {wildcards.seed}"
    shell:
        "python -m asdpipe --log {log} score --settings {params.settings:q} --seed {wildcards.seed} "
        "--clips {input.clips} --embeddings {input.embeddings} --representatives-out {output.representatives} "
        "--scores {output.scores} --thresholds {output.thresholds}"


rule score_external:
    input:
        unpack(shard_inputs),
        weights=f"{STAGE}/model.safetensors",
        description=f"{STAGE}/model.json",
        representatives=f"{STAGE}/representatives.parquet",
        thresholds=f"{STAGE}/thresholds.parquet",
    output:
        scores=f"{STAGE}/external/{{shard}}.parquet",
        skipped=f"{STAGE}/external/{{shard}}_skipped.csv",
    log:
        f"{STAGE}/logs/score_external_{{shard}}.log",
    benchmark:
        f"{STAGE}/benchmarks/score_external_{{shard}}.tsv"
    conda:
        "../../environment.yml"
    threads: 4
    resources:
        mem_mb=lambda w, attempt: attempt * 3000,
        runtime=lambda w, attempt: attempt * 240,
        gpu=gpus,
    params:
        pool=lambda w: CONFIG.datasets[w.dataset].pool,
        settings=shard_settings,
        files=lambda w, input: options(
            **{name: input[name] for name in ("index", "samples", "pool_clips") if name in input.keys()}
        ),
    message:
        "Scoring external shard {wildcards.shard} with {wildcards.method}, stage {wildcards.stage}, "
        "seed {wildcards.seed}"
    shell:
        "python -m asdpipe --log {log} score-external --pool {params.pool} {params.settings} --weights {input.weights} "
        "--description {input.description} --representatives-in {input.representatives} "
        "--thresholds {input.thresholds} {params.files} --scores {output.scores} --skipped {output.skipped}"
