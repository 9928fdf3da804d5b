"""The report of the configured data set and method."""


rule report:
    input:
        results=planned(PLAN.report),
    output:
        page=report("results/report.html", caption="../report/report.rst", category="Report"),
    log:
        "results/logs/report.log",
    benchmark:
        "results/benchmarks/report.tsv"
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        mem_mb=growing(2500),
        runtime=growing(30),
    params:
        code=code("report"),
        dataset=CONFIG.dataset,
        method=CONFIG.method,
    message:
        "Writing the report of what is there of {params.method} on {params.dataset}, log: {log}"
    shell:
        "python -m asdpipe --log {log} step report --results results --dataset {params.dataset} "
        "--method {params.method} --page {output.page}"
