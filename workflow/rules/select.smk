"""Candidate labels for stage 1, and what a stage hands to the next: the pseudo-anomalous set and pseudo-labels."""


rule rank_labels:
    input:
        unpack(planned(PLAN.rank_labels)),
    output:
        labels="results/{dataset}/{method}/seed{seed}/stage0/pseudo_labels.parquet",
        classes="results/{dataset}/{method}/seed{seed}/stage0/label_classes.csv",
    log:
        "results/{dataset}/{method}/seed{seed}/stage0/logs/rank_labels.log",
    benchmark:
        "results/{dataset}/{method}/seed{seed}/stage0/benchmarks/rank_labels.tsv"
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        mem_mb=growing(2500, per_mb=1),
        runtime=growing(30, per_mb=0.01),
    params:
        code=code("rank_labels"),
        settings=settings("rank_labels"),
        num_samples=planned(PLAN.num_samples),
        files=given,
    message:
        "Ranking candidate labels of {wildcards.dataset} for {wildcards.method}, seed {wildcards.seed}, log: {log}"
    shell:
        "python -m asdpipe --log {log} step rank-labels --settings {params.settings:q} "
        "--num-samples {params.num_samples} --seed {wildcards.seed} {params.files} "
        "--labels {output.labels} --classes {output.classes}"


rule select:
    input:
        unpack(planned(PLAN.select)),
    output:
        selected=f"{STAGE}/selected.parquet",
    log:
        f"{STAGE}/logs/select.log",
    benchmark:
        f"{STAGE}/benchmarks/select.tsv"
    # Stage 0, which has no scores, draws the external clips of stage 1 at random.
    wildcard_constraints:
        stage=r"\d+",
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
    params:
        code=code("select"),
        settings=settings("select"),
        files=given,
    message:
        "Selecting external clips with {wildcards.method}, stage {wildcards.stage}, seed {wildcards.seed}, log: {log}"
    shell:
        "python -m asdpipe --log {log} step select --settings {params.settings:q} --stage {wildcards.stage} "
        "--seed {wildcards.seed} {params.files} --selected {output.selected}"


rule pseudo_label:
    input:
        unpack(planned(PLAN.train_embeddings)),
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
        settings=settings("pseudo_label"),
        files=given,
    message:
        "Assigning pseudo-labels with {wildcards.method}, stage {wildcards.stage}, seed {wildcards.seed}, log: {log}"
    shell:
        "python -m asdpipe --log {log} step pseudo-label --settings {params.settings:q} "
        "--seed {wildcards.seed} {params.files} --labels {output.labels}"
