"""AUC per machine type, section and split; then over seeds, beside the score of every clip."""


rule evaluate:
    input:
        clips="results/data/{dataset}/clips.parquet",
        scores=scored_clips,
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
        scoring=asked(lambda w: CONFIG.resolve_dataset(w.dataset).official),
    message:
        "Evaluating {wildcards.method} on {wildcards.dataset}, stage {wildcards.stage}, seed {wildcards.seed}"
    shell:
        "python -m asdpipe --log {log} evaluate {params.names} --scoring {params.scoring} --clips {input.clips} "
        "--scores {input.scores} --auc {output.auc}"


rule summarize:
    input:
        aucs=of_each_seed("auc.csv"),
        yardstick=yardstick_auc,
        earlier=lambda w: [f"results/stage{stage}/auc.csv" for stage in range(1, int(w.stage))],
    output:
        auc="results/stage{stage}/auc.csv",
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
        mem_mb=growing(1000),
        runtime=growing(10),
    params:
        code=code("summarize"),
        files=lambda w, input: options(aucs=input.aucs, others=[*input.yardstick, *input.earlier]),
    message:
        "Mean and variance over the seeds, stage {wildcards.stage}"
    shell:
        "python -m asdpipe --log {log} summarize {params.files} --auc {output.auc}"


rule scores_table:
    input:
        clips=f"results/data/{CONFIG.dataset}/clips.parquet",
        scores=of_each_seed("scores.parquet"),
        thresholds=of_each_seed("thresholds.parquet"),
    output:
        table="results/stage{stage}/scores.csv",
    log:
        "results/stage{stage}/logs/scores_table.log",
    benchmark:
        "results/stage{stage}/benchmarks/scores_table.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        code=code("scores_table"),
        files=lambda w, input: options(scores=input.scores, thresholds=input.thresholds),
    message:
        "Score and decision of every test clip, stage {wildcards.stage}"
    shell:
        "python -m asdpipe --log {log} scores-table --clips {input.clips} {params.files} --table {output.table}"
