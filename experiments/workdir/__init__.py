"""What a run leaves on a disk and finds there again: checkpoints (orbax's only importer), rows of metrics, a lock.

It may import `qat`, `configs`, `errors` and `terminal`. States and rows come in; sealed files go out, and come
back only while they are as they were written.
"""
