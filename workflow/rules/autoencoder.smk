"""The DCASE baseline: an autoencoder for every machine type, and its distances for every clip."""


rule train_autoencoder:
    input:
        clips="results/data/{dataset}/clips.parquet",
        index="results/data/{dataset}/waveforms.parquet",
        samples="results/data/{dataset}/waveforms.int16",
    output:
        labels=f"{STAGE}/labels.parquet",
        weights=f"{STAGE}/model.safetensors",
        description=f"{STAGE}/model.json",
        history=f"{STAGE}/training.csv",
    log:
        f"{STAGE}/logs/train_autoencoder.log",
    benchmark:
        f"{STAGE}/benchmarks/train_autoencoder.tsv"
    wildcard_constraints:
        method=any_of(AUTOENCODERS),
        stage="1",
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=growing(2500, per_mb=1),
        # A thousand clips of 10 s take a core some 20 minutes.
        runtime=growing(960),
        gpu=gpus,
    params:
        code=code("train_autoencoder"),
        settings=method_settings("autoencoder"),
    message:
        "Training {wildcards.method} on {wildcards.dataset}, one autoencoder per machine type, seed {wildcards.seed}"
    # exec: signals reach the training, which saves its state, also where bash is old.
    shell:
        "exec python -m asdpipe --log {log} train-autoencoder --settings {params.settings:q} --seed {wildcards.seed} "
        "--clips {input.clips} --index {input.index} --samples {input.samples} "
        "--labels {output.labels} --weights {output.weights} --description {output.description} "
        "--history {output.history}"


rule embed_autoencoder:
    input:
        clips="results/data/{dataset}/clips.parquet",
        index="results/data/{dataset}/waveforms.parquet",
        samples="results/data/{dataset}/waveforms.int16",
        weights=f"{STAGE}/model.safetensors",
        description=f"{STAGE}/model.json",
    output:
        embeddings=f"{STAGE}/embeddings.parquet",
    log:
        f"{STAGE}/logs/embed_autoencoder.log",
    benchmark:
        f"{STAGE}/benchmarks/embed_autoencoder.tsv"
    wildcard_constraints:
        method=any_of(AUTOENCODERS),
        stage="1",
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=growing(2500, per_mb=1),
        runtime=growing(60),
        gpu=gpus,
    params:
        code=code("embed_autoencoder"),
        files=lambda w, input: options(**dict(input.items())),
    message:
        "Distances of {wildcards.dataset} from {wildcards.method}, seed {wildcards.seed}"
    shell:
        "python -m asdpipe --log {log} embed-autoencoder {params.files} --embeddings {output.embeddings}"
