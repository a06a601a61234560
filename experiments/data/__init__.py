"""Data sets and the tasks that read them: batches as a function of (seed, step), loss and metrics of a model on them.

Here live the registry of data sets, arrays in memory, tensorflow-datasets (TensorFlow's only importer), ImageNet, and
image classification as a task. It may import `qat`, `errors` and `terminal`. A config's names come in; batches, dicts
of arrays, and their task go out, and nobody else knows of images, labels or pixels.
"""
