"""Many runs as one experiment: the plan of a grid, the workers that go through it, the pool that starts them, a table.

It may import every other package of experiments/. A config, a grid and a number of seeds come in; a folder of finished
runs, one table and one report go out.
"""
