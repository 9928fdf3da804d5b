"""One file per rule, as data flows, from download to submission."""
