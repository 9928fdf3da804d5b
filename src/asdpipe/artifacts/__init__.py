"""Artifacts: schemas, tables in parquet, and files that appear whole or not at all."""
