"""Data sets and the tasks that read them: batches as a function of (seed, step), loss and metrics of a model on them.

They are the registry of data sets, arrays in memory and their transforms, a user's .npz file, folder of images or text,
tensorflow-datasets (the only importer of TensorFlow), ImageNet, and the tasks: image classification and language. This
package may import `qat`, `errors` and `terminal`. The names in a config come in; batches, which are dicts of arrays,
and their task go out. No other package knows about images, labels, pixels or tokens.
"""
