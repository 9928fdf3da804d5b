"""The embedding of every clip of the data set."""


rule embed:
    input:
        unpack(model_inputs),
        index="results/data/{dataset}/waveforms.parquet",
        samples="results/data/{dataset}/waveforms.int16",
    output:
        embeddings=f"{STAGE}/embeddings.parquet",
    log:
        f"{STAGE}/logs/embed.log",
    benchmark:
        f"{STAGE}/benchmarks/embed.tsv"
    conda:
        "../../environment.yml"
    threads: 4
    resources:
        mem_mb=growing(2500, per_mb=1),
        runtime=growing(30, per_mb=0.01),
        gpu=gpus,
    params:
        code=code("embed"),
        num_samples=num_samples,
        model=lambda w, input: options(
            **{name: input[name] for name in ("weights", "description") if name in input.keys()}
        ),
    message:
        "Embedding {wildcards.dataset} with {wildcards.method}, stage {wildcards.stage}, seed {wildcards.seed}"
    shell:
        "python -m asdpipe --log {log} embed --num-samples {params.num_samples} "
        "--index {input.index} --samples {input.samples} {params.model} --embeddings {output.embeddings}"
