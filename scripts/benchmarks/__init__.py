"""What `python -m scripts.benchmark` measures: one kind of measurement a file."""
