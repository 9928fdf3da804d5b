from snakemake.utils import min_version

min_version("9.0")


report: "workflow/report/workflow.rst"


# A file given with --configfile stands alone, so that the demo's small settings never leak into another run.
if not workflow.overwrite_configfiles:

    configfile: "config/config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/download.smk"
include: "workflow/rules/checkpoints.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/score.smk"
include: "workflow/rules/select.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/submission.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/report.smk"


onstart:
    refuse_read_only_results()
    refuse_missing_slurm()
    note_planned_jobs()


onsuccess:
    planned_jobs.forget(Path("results"))


onerror:
    planned_jobs.forget(Path("results"))


rule all:
    default_target: True
    input:
        expand("results/stage{stage}/{file}", stage=range(1, PLAN.last_stage + 1), file=["auc.csv", "scores.csv"]),
