"""The files of a DCASE submission."""


rule submission:
    input:
        clips="results/data/{dataset}/clips.parquet",
        scores=f"{STAGE}/scores.parquet",
        thresholds=f"{STAGE}/thresholds.parquet",
    output:
        folder=directory(f"{STAGE}/submission"),
    log:
        f"{STAGE}/logs/submission.log",
    benchmark:
        f"{STAGE}/benchmarks/submission.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
    params:
        code=code("submission"),
        scoring=asked(lambda w: CONFIG.resolve_dataset(w.dataset).official),
    message:
        "Submission of {wildcards.method} for {wildcards.dataset}, stage {wildcards.stage}, seed {wildcards.seed}"
    shell:
        "python -m asdpipe --log {log} submission --clips {input.clips} --scores {input.scores} "
        "--thresholds {input.thresholds} --folder {output.folder} --scoring {params.scoring}"
