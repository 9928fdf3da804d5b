"""Decode every clip once: 16 kHz mono int16, memory-mapped."""


rule features:
    input:
        clips="results/data/{dataset}/clips.parquet",
    output:
        samples="results/data/{dataset}/waveforms.int16",
        index="results/data/{dataset}/waveforms.parquet",
        skipped="results/data/{dataset}/skipped.csv",
    log:
        "results/data/{dataset}/logs/features.log",
    benchmark:
        "results/data/{dataset}/benchmarks/features.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(120),
    params:
        code=code("features"),
        settings=dataset_settings("channel", "min_seconds", "on_bad_clip"),
    message:
        "Decoding the clips of {wildcards.dataset}"
    shell:
        "python -m asdpipe --log {log} features --settings {params.settings:q} --clips {input.clips} "
        "--samples {output.samples} --index {output.index} --skipped {output.skipped}"


rule features_pool:
    input:
        clips="results/external/{pool}/clips.parquet",
    output:
        samples="results/external/{pool}/{shard}/waveforms.int16",
        index="results/external/{pool}/{shard}/waveforms.parquet",
        skipped="results/external/{pool}/{shard}/skipped.csv",
    log:
        "results/external/{pool}/logs/features_{shard}.log",
    benchmark:
        "results/external/{pool}/benchmarks/features_{shard}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(240),
    params:
        code=code("features_pool"),
        settings=pool_settings("channel", "min_seconds", "on_bad_clip"),
    message:
        "Decoding shard {wildcards.shard} of the external pool {wildcards.pool}"
    shell:
        "python -m asdpipe --log {log} features-pool --settings {params.settings:q} --shard {wildcards.shard} "
        "--clips {input.clips} --samples {output.samples} --index {output.index} --skipped {output.skipped}"


rule features_selected:
    input:
        selected=f"{STAGE}/selected.parquet",
        pool_clips=lambda w: f"results/external/{pool_of(w)}/clips.parquet",
    output:
        samples=f"{STAGE}/selected_waveforms.int16",
        index=f"{STAGE}/selected_waveforms.parquet",
        skipped=f"{STAGE}/selected_skipped.csv",
    log:
        f"{STAGE}/logs/features_selected.log",
    benchmark:
        f"{STAGE}/benchmarks/features_selected.tsv"
    # Stage 0 draws the external clips of stage 1.
    wildcard_constraints:
        stage=r"\d+",
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(120),
    params:
        code=code("features_selected"),
        settings=selected_settings,
    message:
        "Decoding the external clips that {wildcards.method} selects, stage {wildcards.stage}, seed {wildcards.seed}"
    shell:
        "python -m asdpipe --log {log} features-selected --settings {params.settings:q} --selected {input.selected} "
        "--pool-clips {input.pool_clips} --samples {output.samples} --index {output.index} "
        "--skipped {output.skipped}"
