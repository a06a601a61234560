"""What a run leaves on a disk and finds there again: checkpoints (the only importer of orbax), rows of metrics, a lock.

Weights from PyTorch (the only importer of safetensors) are read here too. It may import `qat`, `configs`, `errors` and
`terminal`. States and rows come in; files go out, and checkpoints come back only if they are as they were written.
"""
