"""One file per rule, with a function of its name."""

# Every step in the order of the data flow, with the first line of its docstring (a test compares them).
STEPS = {
    "download": "Download and unpack what is missing of a DCASE data set.",
    "import_checkpoint": "Import a pre-trained checkpoint.",
    "generate_dataset": "Generate the demo data set.",
    "generate_pool": "Generate the demo's external pool.",
    "list_clips": "List the clips of one split, with what their places, names and csv files say.",
    "label_clips": "Join the lists of all splits with the ground truth.",
    "list_pool_clips": "List the clips of an external pool.",
    "pack_clips": "Pack the training or the test clips of a data set.",
    "pack_pool": "Pack one shard of an external pool.",
    "pack_selected": "Pack the selected clips.",
    "rank_labels": "Rank the candidate labels of every training clip.",
    "train": "Train one stage.",
    "embed": "Embed all clips of a split of a data set.",
    "represent": "Make representatives and selection thresholds.",
    "score": "Score the training and test clips of every machine type.",
    "fuse_scores": "Fuse the scores of several methods.",
    "score_external": "Score one shard of the pool against every machine type.",
    "select": "Select external clips by the scores of a stage.",
    "pseudo_label": "Cluster the embeddings of the training clips.",
    "evaluate": "Write the metrics of one seed, in percent.",
    "summarize": "Write mean and variance of the AUC over the seeds, and the score of every test clip.",
    "write_submission": "Write anomaly scores and decisions of the test clips in DCASE's format.",
    "write_paper_table": "Write a table of the paper with our results beside the published ones.",
    "write_top_m_table": "Write a table of the Top-M paper with our results beside the published ones.",
}
