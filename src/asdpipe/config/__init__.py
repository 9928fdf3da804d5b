"""The configuration: pydantic models, the known methods, and reading with messages for people."""
