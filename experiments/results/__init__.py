"""Turns what a run measured into what a person reads: the list of metrics, summary, explanation, figures, pages.

It may import `setup`, `data`, `workdir`, `qat`, `errors` and `terminal`. Rows of metrics and settings come in;
summary.json, a table for the terminal, figures and self-contained HTML pages go out.
"""
