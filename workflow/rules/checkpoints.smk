"""Pre-trained weights: official files, given or downloaded, become weights of this package."""


rule import_checkpoint:
    input:
        unpack(planned(PLAN.import_checkpoint)),
    output:
        weights="results/checkpoints/{checkpoint}/weights.safetensors",
        description="results/checkpoints/{checkpoint}/description.json",
    log:
        "results/checkpoints/{checkpoint}/logs/import_checkpoint.log",
    benchmark:
        "results/checkpoints/{checkpoint}/benchmarks/import_checkpoint.tsv"
    # Cluster nodes often have no internet access.
    localrule: True
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=240,
    params:
        code=code("import_checkpoint"),
        settings=settings("import_checkpoint"),
        folder="downloads/checkpoints/{checkpoint}",
        files=given,
    message:
        "Importing the checkpoint {wildcards.checkpoint}, log: {log}"
    shell:
        "python -m asdpipe --log {log} step import-checkpoint --name {wildcards.checkpoint} --folder {params.folder:q} "
        "--settings {params.settings:q} {params.files} --weights {output.weights} --description {output.description}"
