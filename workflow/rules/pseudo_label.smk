"""Pseudo-labels for the next stage."""


rule pseudo_label:
    input:
        clips="results/data/{dataset}/clips.parquet",
        embeddings=f"{STAGE}/embeddings.parquet",
    output:
        labels=f"{STAGE}/pseudo_labels.parquet",
    log:
        f"{STAGE}/logs/pseudo_label.log",
    benchmark:
        f"{STAGE}/benchmarks/pseudo_label.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
    params:
        code=code("pseudo_label"),
        settings=method_settings("pseudo_labels"),
    message:
        "Assigning pseudo-labels with {wildcards.method}, stage {wildcards.stage}, seed {wildcards.seed}"
    shell:
        "python -m asdpipe --log {log} pseudo-label --settings {params.settings:q} --seed {wildcards.seed} "
        "--clips {input.clips} --embeddings {input.embeddings} --labels {output.labels}"
