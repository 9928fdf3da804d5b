"""The tables of the papers with our results beside the published ones."""


rule write_paper_table:
    input:
        unpack(planned(TABLES.inputs)),
    output:
        csv=report(
            "results/tables/table{table}.csv",
            caption="../report/paper_table.rst",
            category="Tables of the papers",
            labels={"table": "{table}"},
        ),
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
        "python -m asdpipe --log {log} step write-paper-table --table {wildcards.table} "
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


rule write_top_m_table:
    input:
        unpack(planned(TABLES.top_m_inputs)),
    output:
        csv=report(
            "results/tables/topm_{backbone}.csv",
            caption="../report/top_m_table.rst",
            category="Tables of the papers",
            labels={"table": "Top-M, {backbone}"},
        ),
        markdown="results/tables/topm_{backbone}.md",
    log:
        "results/tables/logs/topm_{backbone}.log",
    benchmark:
        "results/tables/benchmarks/topm_{backbone}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
    params:
        code=code("write_top_m_table"),
        datasets=planned(TABLES.top_m_machines),
        files=given,
    message:
        "Writing the table of the Top-M paper for {wildcards.backbone} with our results beside the published ones, "
        "log: {log}"
    shell:
        "python -m asdpipe --log {log} step write-top-m-table --backbone {wildcards.backbone} "
        "--datasets {params.datasets:q} {params.files} --csv {output.csv} --markdown {output.markdown}"


rule write_top_m_tables:
    input:
        expand("results/tables/topm_{backbone}.{suffix}", backbone=top_m.BACKBONES, suffix=["csv", "md"]),
    output:
        touch("results/tables/topm"),
    log:
        "results/tables/logs/write_top_m_tables.log",
    benchmark:
        "results/tables/benchmarks/write_top_m_tables.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=100,
        runtime=5,
    params:
        backbones=" ".join(top_m.BACKBONES),
    message:
        "The tables of the Top-M paper for {params.backbones} are in results/tables, log: {log}"
    shell:
        "ls -l {input} > {log}"
