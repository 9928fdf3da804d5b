"""AUC per machine type, section and split of one seed; then AUC over seeds and the score of every test clip."""


rule evaluate:
    input:
        unpack(planned(PLAN.evaluate)),
    output:
        auc=f"{STAGE}/auc.csv",
    log:
        f"{STAGE}/logs/evaluate.log",
    benchmark:
        f"{STAGE}/benchmarks/evaluate.tsv"
    wildcard_constraints:
        stage=r"\d+",
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
    params:
        code=code("evaluate"),
        names=lambda w: f"--dataset {w.dataset} --method {w.method} --stage {w.stage} --seed {w.seed}",
        scoring=planned(PLAN.scoring),
    message:
        "Evaluating {wildcards.method} on {wildcards.dataset}, stage {wildcards.stage}, "
        "seed {wildcards.seed}, log: {log}"
    shell:
        "python -m asdpipe --log {log} step evaluate {params.names} --scoring {params.scoring} --clips {input.clips} "
        "--scores {input.scores} --auc {output.auc}"


rule summarize:
    input:
        unpack(planned(PLAN.summarize)),
    output:
        auc=report(
            "results/stage{stage}/auc.csv",
            caption="../report/auc.rst",
            category="Results",
            labels={"stage": "{stage}", "table": "AUC"},
        ),
        table=report(
            "results/stage{stage}/scores.csv",
            caption="../report/scores.rst",
            category="Results",
            labels={"stage": "{stage}", "table": "scores"},
        ),
    log:
        "results/stage{stage}/logs/summarize.log",
    benchmark:
        "results/stage{stage}/benchmarks/summarize.tsv"
    wildcard_constraints:
        stage=r"\d+",
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        code=code("summarize"),
        files=given,
    message:
        "Mean and variance over the seeds, and the score of every test clip, stage {wildcards.stage}, log: {log}"
    shell:
        "python -m asdpipe --log {log} step summarize {params.files} --auc {output.auc} " "--table {output.table}"
