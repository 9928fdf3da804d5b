"""The files of a DCASE submission."""


rule write_submission:
    input:
        unpack(planned(PLAN.submission)),
    output:
        folder=directory(f"{STAGE}/submission"),
    log:
        f"{STAGE}/logs/write_submission.log",
    benchmark:
        f"{STAGE}/benchmarks/write_submission.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
    params:
        code=code("write_submission"),
        scoring=planned(PLAN.scoring),
    message:
        "Writing the submission of {wildcards.method} for {wildcards.dataset}, stage {wildcards.stage}, "
        "seed {wildcards.seed}, log: {log}"
    shell:
        "python -m asdpipe --log {log} step write-submission --clips {input.clips} --scores {input.scores} "
        "--thresholds {input.thresholds} --folder {output.folder} --scoring {params.scoring}"
