"""The shell: use cases, one verb per file."""
