"""From a command line and a config file to the objects of a run, every value checked before anything starts.

Here live flags, config files, settings, and the files of Python that a user names. It may import `qat`, `configs` and
`errors`. Text comes in; `Settings` go out, or a `UserError` that says what is wrong, where, and what to do.
"""
