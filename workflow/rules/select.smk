"""The pseudo-anomalous set for the next stage."""


rule select:
    input:
        pool_clips=lambda w: f"results/external/{pool_of(w)}/clips.parquet",
        pool_index=lambda w: pool_files(w, "waveforms.parquet"),
        thresholds=f"{STAGE}/thresholds.parquet",
        scores=shard_scores,
    output:
        selected=f"{STAGE}/selected.parquet",
    log:
        f"{STAGE}/logs/select.log",
    benchmark:
        f"{STAGE}/benchmarks/select.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=lambda w, attempt: attempt * 2000,
        runtime=lambda w, attempt: attempt * 30,
    params:
        settings=method_settings("external"),
        files=lambda w, input: options(pool_index=input.pool_index, scores=input.scores),
    message:
        "Selecting external clips with {wildcards.method}, stage {wildcards.stage}, seed {wildcards.seed}"
    shell:
        "python -m asdpipe --log {log} select --settings {params.settings:q} --stage {wildcards.stage} "
        "--seed {wildcards.seed} --pool-clips {input.pool_clips} --thresholds {input.thresholds} {params.files} "
        "--selected {output.selected}"
