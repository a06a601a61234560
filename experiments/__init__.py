"""Every side effect of the project: files, data, devices, the command line.

At the top stand the commands (train, explain, sweep, convert, report), thin; the rooms below hold what they do. Arrows
run sweeps -> training -> results -> {workdir, setup, data} -> {errors, terminal}, all of them to `qat`, and never back.
A command line comes in; a workdir with a run, its metrics and its report goes out.
"""
