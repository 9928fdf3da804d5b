from snakemake.utils import min_version

min_version("9.0")


# A file given with --configfile stands alone, so that the demo's small settings never leak into another run.
if not workflow.overwrite_configfiles:

    configfile: "config/config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/inputs.smk"
include: "workflow/rules/download.smk"
include: "workflow/rules/manifest.smk"
include: "workflow/rules/features.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/embed.smk"
include: "workflow/rules/autoencoder.smk"
include: "workflow/rules/score.smk"
include: "workflow/rules/select.smk"
include: "workflow/rules/pseudo_label.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/submission.smk"
include: "workflow/rules/tables.smk"


# What methods share is linked, never made twice.
ruleorder: share_first_model > share_every_model > train_autoencoder > embed_autoencoder > train > embed
ruleorder: share_first_representatives > share_every_representatives > represent
ruleorder: share_first_scores > score
ruleorder: share_first_external > score_external


onstart:
    refuse_read_only_results()
    refuse_missing_slurm()


rule all:
    default_target: True
    input:
        expand("results/stage{stage}/{file}", stage=range(1, LAST_STAGE + 1), file=["auc.csv", "scores.csv"]),
