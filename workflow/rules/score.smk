"""Representatives, anomaly scores and thresholds; scores of the external clips."""


rule represent:
    input:
        clips="results/data/{dataset}/clips.parquet",
        embeddings=f"{STAGE}/embeddings.parquet",
    output:
        representatives=f"{STAGE}/representatives.parquet",
    log:
        f"{STAGE}/logs/represent.log",
    benchmark:
        f"{STAGE}/benchmarks/represent.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
    params:
        code=code("represent"),
        k_source=lambda w: METHODS[w.method].inference.k_source,
    message:
        "Representatives of {wildcards.dataset} with {wildcards.method}, stage {wildcards.stage}, "
        "seed {wildcards.seed}"
    shell:
        "python -m asdpipe --log {log} represent --k-source {params.k_source} --seed {wildcards.seed} "
        "--clips {input.clips} --embeddings {input.embeddings} --representatives {output.representatives}"


rule score:
    input:
        unpack(backend_inputs),
        clips="results/data/{dataset}/clips.parquet",
        embeddings=f"{STAGE}/embeddings.parquet",
    output:
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
        mem_mb=growing(2000),
        runtime=growing(30),
    params:
        code=code("score"),
        settings=lambda w: METHODS[w.method].scoring,
        representatives=lambda w, input: options(representatives=input.get("representatives", [])),
    message:
        "Scoring {wildcards.dataset} with {wildcards.method}, stage {wildcards.stage}, seed {wildcards.seed}"
    shell:
        "python -m asdpipe --log {log} score --settings {params.settings:q} --seed {wildcards.seed} "
        "--clips {input.clips} --embeddings {input.embeddings} {params.representatives} "
        "--scores {output.scores} --thresholds {output.thresholds}"


# Stage 1 of methods that start alike, and every stage of methods that only score otherwise.
use rule share_first_model as share_first_representatives with:
    input:
        owned(FIRST_OWNER, "representatives.parquet"),
    output:
        "results/{dataset}/{method}/seed{seed}/stage1/representatives.parquet",
    log:
        "results/{dataset}/{method}/seed{seed}/stage1/logs/share_representatives.log",
    benchmark:
        "results/{dataset}/{method}/seed{seed}/stage1/benchmarks/share_representatives.tsv"
    wildcard_constraints:
        method=any_of(SAME_REPRESENTATIVES),


use rule share_first_model as share_every_representatives with:
    input:
        owned(OWNER, "representatives.parquet"),
    output:
        f"{STAGE}/representatives.parquet",
    log:
        f"{STAGE}/logs/share_representatives.log",
    benchmark:
        f"{STAGE}/benchmarks/share_representatives.tsv"
    wildcard_constraints:
        method=any_of(RESCORED),


use rule share_first_model as share_first_scores with:
    input:
        owned(FIRST_OWNER, "scores.parquet", "thresholds.parquet"),
    output:
        "results/{dataset}/{method}/seed{seed}/stage1/scores.parquet",
        "results/{dataset}/{method}/seed{seed}/stage1/thresholds.parquet",
    log:
        "results/{dataset}/{method}/seed{seed}/stage1/logs/share_scores.log",
    benchmark:
        "results/{dataset}/{method}/seed{seed}/stage1/benchmarks/share_scores.tsv"
    wildcard_constraints:
        method=any_of(SAME_SCORES),


use rule share_first_model as share_first_external with:
    input:
        owned(FIRST_OWNER, "external/{shard}.parquet"),
    output:
        "results/{dataset}/{method}/seed{seed}/stage1/external/{shard}.parquet",
    log:
        "results/{dataset}/{method}/seed{seed}/stage1/logs/share_external_{shard}.log",
    benchmark:
        "results/{dataset}/{method}/seed{seed}/stage1/benchmarks/share_external_{shard}.tsv"
    wildcard_constraints:
        method=any_of(SAME_REPRESENTATIVES),


rule score_external:
    input:
        unpack(shard_inputs),
        weights=f"{STAGE}/model.safetensors",
        description=f"{STAGE}/model.json",
        representatives=f"{STAGE}/representatives.parquet",
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
        mem_mb=growing(3000),
        runtime=growing(240),
        gpu=gpus,
    params:
        code=code("score_external"),
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
        "--description {input.description} --representatives {input.representatives} "
        "{params.files} --scores {output.scores} --skipped {output.skipped}"
