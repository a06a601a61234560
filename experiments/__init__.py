"""Every side effect of the project: files, data, devices, the command line.

The modules here are the commands (train, explain, sweep, convert, report, audit); the packages below do their work.
Imports run sweeps -> training -> results -> {workdir, setup, data} -> {errors, terminal}, from all to `qat`, and never
back.
A command line comes in; a workdir with a run, its metrics and its report goes out.
"""
