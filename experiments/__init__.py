"""Every side effect of the project: files, data, devices, the command line."""
