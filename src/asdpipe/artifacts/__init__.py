"""Artifacts: table schemas, parquet files and atomic writes."""
