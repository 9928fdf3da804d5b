"""One file per rule, as data flows: manifest, features, train, embed, score, select, pseudo_label, evaluate."""
