"""The pseudo-anomalous set for the next stage."""


rule select:
    input:
        pool_clips=lambda w: f"results/external/{pool_of(w)}/clips.parquet",
        pool_index=lambda w: packed_shards(w, "waveforms.parquet"),
        representatives=f"{STAGE}/representatives.parquet",
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
        mem_mb=growing(2000),
        runtime=growing(30),
    params:
        code=code("select"),
        settings=method_settings("external"),
        stage=lambda w: w.stage,
        files=lambda w, input: options(
            pool_index=input.pool_index, representatives=input.representatives, scores=input.scores
        ),
    message:
        "Selecting external clips with {wildcards.method}, stage {wildcards.stage}, seed {wildcards.seed}"
    shell:
        "python -m asdpipe --log {log} select --settings {params.settings:q} --stage {params.stage} "
        "--seed {wildcards.seed} --pool-clips {input.pool_clips} {params.files} "
        "--selected {output.selected}"


# There are no scores before stage 1: its external clips, if any, are drawn at random.
use rule select as select_first with:
    input:
        pool_clips=lambda w: f"results/external/{pool_of(w)}/clips.parquet",
        pool_index=lambda w: packed_shards(w, "waveforms.parquet"),
        clips="results/data/{dataset}/clips.parquet",
    output:
        selected="results/{dataset}/{method}/seed{seed}/stage0/selected.parquet",
    log:
        "results/{dataset}/{method}/seed{seed}/stage0/logs/select.log",
    benchmark:
        "results/{dataset}/{method}/seed{seed}/stage0/benchmarks/select.tsv"
    params:
        code=code("select", rule="select_first"),
        settings=method_settings("external"),
        stage=0,
        files=lambda w, input: options(pool_index=input.pool_index, clips=input.clips),
    message:
        "Drawing the external clips of stage 1 at random for {wildcards.method}, seed {wildcards.seed}"
