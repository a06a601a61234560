"""One file an experiment: values and nothing else; the docstring is its lab record: command, cost, what came out.

`common` declares every key once, with what it means. It imports ml_collections alone; settings read it.
"""
