"""Which clips there are: data sets and external pools, generated (demo) or found on disk."""


rule demo_dataset:
    output:
        directory("results/data/{dataset}/recordings"),
    log:
        "results/data/{dataset}/logs/demo_dataset.log",
    benchmark:
        "results/data/{dataset}/benchmarks/demo_dataset.tsv"
    wildcard_constraints:
        dataset=demo_names(CONFIG.datasets),
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(30),
    params:
        code=code("demo_dataset"),
        settings=dataset_settings("format", "clip_seconds", "demo"),
    message:
        "Generating the recordings of {wildcards.dataset}"
    shell:
        "python -m asdpipe --log {log} demo-dataset --settings {params.settings:q} --folder {output}"


rule demo_pool:
    output:
        directory("results/external/{pool}/recordings"),
    log:
        "results/external/{pool}/logs/demo_pool.log",
    benchmark:
        "results/external/{pool}/benchmarks/demo_pool.tsv"
    wildcard_constraints:
        pool=demo_names(CONFIG.pools),
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(30),
    params:
        code=code("demo_pool"),
        settings=pool_settings("format", "clip_seconds", "demo"),
    message:
        "Generating the external pool {wildcards.pool}"
    shell:
        "python -m asdpipe --log {log} demo-pool --settings {params.settings:q} --folder {output}"


rule manifest:
    input:
        sources=dataset_sources,
    output:
        clips="results/data/{dataset}/clips.parquet",
    log:
        "results/data/{dataset}/logs/manifest.log",
    benchmark:
        "results/data/{dataset}/benchmarks/manifest.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(30),
    params:
        code=code("manifest"),
        root=dataset_root,
        truth=ground_truth,
        settings=dataset_settings("format", "year", "machines", "parts", "check_counts", "revealed_attributes", "table"),
    message:
        "Listing the clips of {wildcards.dataset}"
    shell:
        "python -m asdpipe --log {log} manifest --name {wildcards.dataset} --root {params.root:q} "
        "--truth={params.truth:q} --settings {params.settings:q} --clips {output.clips}"


rule manifest_pool:
    input:
        folders=pool_folders,
    output:
        clips="results/external/{pool}/clips.parquet",
        left_out="results/external/{pool}/left_out.csv",
    log:
        "results/external/{pool}/logs/manifest_pool.log",
    benchmark:
        "results/external/{pool}/benchmarks/manifest_pool.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
    params:
        code=code("manifest_pool"),
        root=pool_root,
        settings=pool_settings("format", "table", "shards"),
    message:
        "Listing the clips of the external pool {wildcards.pool}"
    shell:
        "python -m asdpipe --log {log} manifest-pool --name {wildcards.pool} --root {params.root:q} "
        "--settings {params.settings:q} --clips {output.clips} --left-out {output.left_out}"
