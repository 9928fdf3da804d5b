"""The paper's tables with our results beside the published ones."""


rule write_paper_table:
    input:
        unpack(planned(TABLES.inputs)),
    output:
        csv="results/tables/table{table}.csv",
        markdown="results/tables/table{table}.md",
    log:
        "results/tables/logs/table{table}.log",
    benchmark:
        "results/tables/benchmarks/table{table}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
    params:
        code=code("write_paper_table"),
        datasets=planned(TABLES.years),
        n_max=planned(TABLES.n_max),
        files=lambda w, input: options(**dict(input.items()), selected_of=planned(TABLES.selected_of)(w)),
    message:
        "Writing table {wildcards.table} of the paper with our results beside the published ones, log: {log}"
    shell:
        "python -m asdpipe --log {log} write-paper-table --table {wildcards.table} "
        "--datasets {params.datasets:q} --n-max {params.n_max:q} {params.files} "
        "--csv {output.csv} --markdown {output.markdown}"


rule write_paper_tables:
    input:
        expand("results/tables/table{table}.{suffix}", table=paper.TABLES, suffix=["csv", "md"]),
    output:
        touch("results/tables/all"),
    log:
        "results/tables/logs/write_paper_tables.log",
    benchmark:
        "results/tables/benchmarks/write_paper_tables.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=100,
        runtime=5,
    params:
        tables=" ".join(paper.TABLES),
    message:
        "The paper's tables {params.tables} are in results/tables, log: {log}"
    shell:
        "ls -l {input} > {log}"
