"""Recordings and ground truth of DCASE Task 2, downloaded and verified once."""


rule download:
    output:
        index="results/data/{dataset}/download.json",
    log:
        "results/data/{dataset}/logs/download.log",
    benchmark:
        "results/data/{dataset}/benchmarks/download.tsv"
    wildcard_constraints:
        dataset=any_of(PLAN.fetched_datasets),
    # Cluster nodes often have no internet access.
    localrule: True
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=1440,
    params:
        code=code("download"),
        root=planned(PLAN.dataset_root),
        settings=settings("download"),
    message:
        "Downloading {wildcards.dataset} into {params.root}, log: {log}"
    shell:
        "python -m asdpipe --log {log} step download --name {wildcards.dataset} --root {params.root:q} "
        "--settings {params.settings:q} --index {output.index}"
