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
        weights=f"{STAGE}/model.safetensors",
        description=f"{STAGE}/model.json",
        representatives=f"{STAGE}/representatives.parquet",
        thresholds=f"{STAGE}/thresholds.parquet",
        index=lambda w: f"results/external/{CONFIG.datasets[w.dataset].pool}/{w.shard}/waveforms.parquet",
        samples=lambda w: f"results/external/{CONFIG.datasets[w.dataset].pool}/{w.shard}/waveforms.int16",
    output:
        scores=f"{STAGE}/external/{{shard}}.parquet",
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
    message:
        "Scoring external shard {wildcards.shard} with {wildcards.method}, stage {wildcards.stage}, "
        "seed {wildcards.seed}"
    shell:
        "python -m asdpipe --log {log} score-external --pool {params.pool} --weights {input.weights} --description {input.description} "
        "--representatives-in {input.representatives} --thresholds {input.thresholds} "
        "--index {input.index} --samples {input.samples} --scores {output.scores}"
