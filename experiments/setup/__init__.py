"""Turns a command line and a config file into the objects of a run, and checks every value before anything starts.

It has flags, config files, settings, and the Python files that a user names. It may import `qat`, `configs` and
`errors`. Text comes in; `Settings` go out, or a `UserError` that says what is wrong, where, and what to do.
"""
