"""Representatives, anomaly scores and thresholds; scores of the external clips."""


rule represent:
    input:
        unpack(planned(PLAN.represent)),
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
        settings=settings("represent"),
        files=given,
    message:
        "Representatives of {wildcards.dataset} with {wildcards.method}, stage {wildcards.stage}, "
        "seed {wildcards.seed}, log: {log}"
    shell:
        "python -m asdpipe --log {log} step represent --settings {params.settings:q} "
        "--seed {wildcards.seed} {params.files} --representatives {output.representatives}"


rule score:
    input:
        unpack(planned(PLAN.score)),
    output:
        scores=f"{STAGE}/scores.parquet",
        thresholds=f"{STAGE}/thresholds.parquet",
    log:
        f"{STAGE}/logs/score.log",
    benchmark:
        f"{STAGE}/benchmarks/score.tsv"
    wildcard_constraints:
        method=none_of(PLAN.fusions),
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
    params:
        code=code("score"),
        settings=settings("score"),
        files=given,
    message:
        "Scoring {wildcards.dataset} with {wildcards.method}, stage {wildcards.stage}, seed {wildcards.seed}, log: {log}"
    shell:
        "python -m asdpipe --log {log} step score --settings {params.settings:q} "
        "--seed {wildcards.seed} {params.files} --scores {output.scores} --thresholds {output.thresholds}"


rule calibrate:
    input:
        unpack(planned(PLAN.calibrate)),
    output:
        calibration=f"{STAGE}/calibration.parquet",
        limits=f"{STAGE}/limits.csv",
    log:
        f"{STAGE}/logs/calibrate.log",
    benchmark:
        f"{STAGE}/benchmarks/calibrate.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
    params:
        code=code("calibrate"),
        settings=settings("calibrate"),
        files=given,
    message:
        "Alarm limits of {wildcards.method} on {wildcards.dataset}, stage {wildcards.stage}, seed {wildcards.seed}, log: {log}"
    shell:
        "python -m asdpipe --log {log} step calibrate --settings {params.settings:q} "
        "--seed {wildcards.seed} {params.files} --calibration {output.calibration} --limits {output.limits}"


rule fuse_scores:
    input:
        unpack(planned(PLAN.fuse_scores)),
    output:
        scores=f"{STAGE}/scores.parquet",
        thresholds=f"{STAGE}/thresholds.parquet",
    log:
        f"{STAGE}/logs/fuse_scores.log",
    benchmark:
        f"{STAGE}/benchmarks/fuse_scores.tsv"
    wildcard_constraints:
        method=any_of(PLAN.fusions),
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        code=code("fuse_scores"),
        settings=settings("fuse_scores"),
        files=given,
    message:
        "Fusing the scores of {wildcards.method} on {wildcards.dataset}, stage {wildcards.stage}, "
        "seed {wildcards.seed}, log: {log}"
    shell:
        "python -m asdpipe --log {log} step fuse-scores --settings {params.settings:q} {params.files} "
        "--fused {output.scores} --thresholds {output.thresholds}"


rule score_external:
    input:
        unpack(planned(PLAN.score_external)),
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
        mem_mb=growing(embedding_mb),
        runtime=growing(240),
        gpu=gpus,
    params:
        code=code("score_external"),
        pool=planned(PLAN.required_pool),
        settings=settings("score_external"),
        files=given,
    message:
        "Scoring external shard {wildcards.shard} with {wildcards.method}, stage {wildcards.stage}, "
        "seed {wildcards.seed}, log: {log}"
    shell:
        "python -m asdpipe --log {log} step score-external --pool {params.pool} --settings {params.settings:q} "
        "--shard {wildcards.shard} {params.files} --scores {output.scores} --skipped {output.skipped}"
