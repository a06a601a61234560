"""What `python -m scripts.reliability` puts a run through: one kind of mishap a file."""
