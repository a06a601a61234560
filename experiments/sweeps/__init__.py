"""Many runs as one experiment: a grid's plan, the workers that go through it, the pool that attends to them, a table.

It may import every other room. A config, a grid and a number of seeds come in; a folder of finished runs, one table and
one report go out.
"""
