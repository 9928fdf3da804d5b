"""One file per rule, as data flows, from download to submission."""

# In the order data flows: module, and its commands.
STEPS = {
    "download": ("download",),
    "manifest": ("demo_dataset", "demo_pool", "manifest", "manifest_pool"),
    "features": ("features", "features_pool", "features_selected"),
    "train": ("train",),
    "embed": ("embed",),
    "autoencoder": ("train_autoencoder", "embed_autoencoder"),
    "score": ("represent", "score", "score_external"),
    "select": ("select",),
    "pseudo_label": ("pseudo_label",),
    "evaluate": ("evaluate", "summarize", "scores_table"),
    "submission": ("submission",),
    "tables": ("paper_table",),
}
