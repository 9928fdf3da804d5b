"""Which clips there are, generated (demo) or found on disk, and their samples, decoded once."""


rule generate_dataset:
    output:
        directory("results/data/{dataset}/recordings"),
    log:
        "results/data/{dataset}/logs/generate_dataset.log",
    benchmark:
        "results/data/{dataset}/benchmarks/generate_dataset.tsv"
    wildcard_constraints:
        dataset=any_of(PLAN.generated_datasets),
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(30),
    params:
        code=code("generate_dataset"),
        settings=settings("generate_dataset"),
    message:
        "Generating the recordings of {wildcards.dataset}, log: {log}"
    shell:
        "python -m asdpipe --log {log} step generate-dataset --settings {params.settings:q} --folder {output}"


rule generate_pool:
    output:
        directory("results/external/{pool}/recordings"),
    log:
        "results/external/{pool}/logs/generate_pool.log",
    benchmark:
        "results/external/{pool}/benchmarks/generate_pool.tsv"
    wildcard_constraints:
        pool=any_of(PLAN.generated_pools),
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(30),
    params:
        code=code("generate_pool"),
        settings=settings("generate_pool"),
    message:
        "Generating the external pool {wildcards.pool}, log: {log}"
    shell:
        "python -m asdpipe --log {log} step generate-pool --settings {params.settings:q} --folder {output}"


rule list_clips:
    input:
        sources=planned(PLAN.sources),
    output:
        clips="results/data/{dataset}/{split}/clips.parquet",
    log:
        "results/data/{dataset}/{split}/logs/list_clips.log",
    benchmark:
        "results/data/{dataset}/{split}/benchmarks/list_clips.tsv"
    # Clips of unions are listed by their data sets.
    wildcard_constraints:
        dataset=none_of(PLAN.united_datasets),
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(30),
    params:
        code=code("list_clips"),
        root=planned(PLAN.dataset_root),
        truth=planned(PLAN.truth),
        settings=settings("list_clips"),
        # What csv files say of these clips, and of no others.
        facts=planned(PLAN.facts),
    message:
        "Listing the {wildcards.split} clips of {wildcards.dataset}, log: {log}"
    shell:
        "python -m asdpipe --log {log} step list-clips --name {wildcards.dataset} --root {params.root:q} "
        "--split {wildcards.split} --truth={params.truth:q} --settings {params.settings:q} --clips {output.clips}"


rule label_clips:
    input:
        unpack(planned(PLAN.labelled_from)),
    output:
        clips="results/data/{dataset}/clips.parquet",
    log:
        "results/data/{dataset}/logs/label_clips.log",
    benchmark:
        "results/data/{dataset}/benchmarks/label_clips.tsv"
    # Clips of unions are listed by their data sets.
    wildcard_constraints:
        dataset=none_of(PLAN.united_datasets),
    # First of all: labels that do not fit are found before hours of training.
    priority: 100
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(30),
    params:
        code=code("label_clips"),
        root=planned(PLAN.dataset_root),
        truth=planned(PLAN.truth),
        settings=settings("label_clips"),
        lists=lambda w, input: options(lists=input.lists),
    message:
        "Joining the clips of {wildcards.dataset} with their labels, log: {log}"
    shell:
        "python -m asdpipe --log {log} step label-clips --root {params.root:q} --truth={params.truth:q} "
        "--settings {params.settings:q} {params.lists} --clips {output.clips}"


rule unite_clips:
    input:
        lists=planned(PLAN.united_from),
    output:
        clips="results/data/{dataset}/{part}clips.parquet",
    log:
        "results/data/{dataset}/{part}logs/unite_clips.log",
    benchmark:
        "results/data/{dataset}/{part}benchmarks/unite_clips.tsv"
    wildcard_constraints:
        dataset=any_of(PLAN.united_datasets),
        # A split, or all of them with their labels.
        part="(?:(?:train|test|supplemental)/)?",
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
    params:
        code=code("unite_clips"),
        settings=settings("unite_clips"),
        lists=lambda w, input: options(lists=input.lists),
    message:
        "Joining the clips of the data sets of {wildcards.dataset}, log: {log}"
    shell:
        "python -m asdpipe --log {log} step unite-clips --settings {params.settings:q} {params.lists} "
        "--clips {output.clips}"


rule list_pool_clips:
    input:
        sources=planned(PLAN.pool_sources),
    output:
        clips="results/external/{pool}/clips.parquet",
        shards="results/external/{pool}/shards.json",
        left_out="results/external/{pool}/left_out.csv",
    log:
        "results/external/{pool}/logs/list_pool_clips.log",
    benchmark:
        "results/external/{pool}/benchmarks/list_pool_clips.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
    params:
        code=code("list_pool_clips"),
        root=planned(PLAN.pool_root),
        settings=settings("list_pool_clips"),
    message:
        "Listing the clips of the external pool {wildcards.pool}, log: {log}"
    shell:
        "python -m asdpipe --log {log} step list-pool-clips --name {wildcards.pool} --root {params.root:q} "
        "--settings {params.settings:q} --clips {output.clips} --shards {output.shards} --left-out {output.left_out}"


rule hold_out_clips:
    input:
        clips="results/data/{dataset}/train/clips.parquet",
    output:
        train="results/data/{dataset}/holdout/train.parquet",
        calibration="results/data/{dataset}/holdout/calibration.parquet",
    log:
        "results/data/{dataset}/holdout/logs/hold_out_clips.log",
    benchmark:
        "results/data/{dataset}/holdout/benchmarks/hold_out_clips.tsv"
    # Before hours of training, too.
    priority: 100
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
    params:
        code=code("hold_out_clips"),
        settings=settings("hold_out_clips"),
    message:
        "Keeping some training clips of {wildcards.dataset} out of training, log: {log}"
    shell:
        "python -m asdpipe --log {log} step hold-out-clips --settings {params.settings:q} --clips {input.clips} "
        "--train {output.train} --calibration {output.calibration}"


rule pack_clips:
    input:
        clips="results/data/{dataset}/{split}/clips.parquet",
    output:
        samples="results/data/{dataset}/{split}/waveforms.int16",
        index="results/data/{dataset}/{split}/waveforms.parquet",
        skipped="results/data/{dataset}/{split}/skipped.csv",
    log:
        "results/data/{dataset}/{split}/logs/pack_clips.log",
    benchmark:
        "results/data/{dataset}/{split}/benchmarks/pack_clips.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(120),
    params:
        code=code("pack_clips"),
        settings=settings("pack_clips"),
    message:
        "Decoding the {wildcards.split} clips of {wildcards.dataset}, log: {log}"
    shell:
        "python -m asdpipe --log {log} step pack-clips --settings {params.settings:q} --split {wildcards.split} "
        "--clips {input.clips} --samples {output.samples} --index {output.index} --skipped {output.skipped}"


rule pack_pool:
    input:
        clips=pool_clips,
    output:
        samples="results/external/{pool}/{shard}/waveforms.int16",
        index="results/external/{pool}/{shard}/waveforms.parquet",
        skipped="results/external/{pool}/{shard}/skipped.csv",
    log:
        "results/external/{pool}/logs/pack_pool_{shard}.log",
    benchmark:
        "results/external/{pool}/benchmarks/pack_pool_{shard}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(240),
    params:
        code=code("pack_pool"),
        # The list is no reason to run again, so what it is made of is.
        listing_code=code("list_pool_clips", rule="pack_pool"),
        listing=settings("list_pool_clips"),
        root=planned(PLAN.pool_root),
        settings=settings("pack_pool"),
        contents=shard_contents,
    message:
        "Decoding shard {wildcards.shard} of the external pool {wildcards.pool}, log: {log}"
    shell:
        "python -m asdpipe --log {log} step pack-pool --settings {params.settings:q} --shard {wildcards.shard} "
        "--clips {input.clips} --samples {output.samples} --index {output.index} --skipped {output.skipped}"


rule pack_selected:
    input:
        selected=f"{STAGE}/selected.parquet",
        pool_clips=planned(PLAN.selected_from),
    output:
        samples=f"{STAGE}/selected_waveforms.int16",
        index=f"{STAGE}/selected_waveforms.parquet",
        skipped=f"{STAGE}/selected_skipped.csv",
    log:
        f"{STAGE}/logs/pack_selected.log",
    benchmark:
        f"{STAGE}/benchmarks/pack_selected.tsv"
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
        code=code("pack_selected"),
        settings=settings("pack_selected"),
    message:
        "Decoding the external clips that {wildcards.method} selects, stage {wildcards.stage}, "
        "seed {wildcards.seed}, log: {log}"
    shell:
        "python -m asdpipe --log {log} step pack-selected --settings {params.settings:q} --selected {input.selected} "
        "--pool-clips {input.pool_clips} --samples {output.samples} --index {output.index} "
        "--skipped {output.skipped}"
