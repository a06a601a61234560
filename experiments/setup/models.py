"""The models that a config can name."""

import functools
from collections.abc import Callable

import flax.linen as nn

from experiments.setup import users
from qat import calls
from qat.models.cifar_resnet import CifarResNet
from qat.models.convnet import ConvNet
from qat.models.resnet import ResNet50
from qat.models.transformer import Transformer

_DEPTHS = (8, 20, 32, 44, 56, 110)  # those of the paper, and one for a CPU
MODELS = {  # what they are given: `Settings.model`
    'convnet': ConvNet,
    **{f'resnet{depth}': functools.partial(CifarResNet, depth=depth) for depth in _DEPTHS},
    'resnet50': ResNet50,
    'transformer': Transformer,
}


def load(text: str) -> Callable[..., nn.Module]:
    """Returns what makes the model of a call, 'resnet20' or 'my_file.py:MyModel(width=32)', from more of its fields.

    Raises:
      ValueError: there is no such model, or it does not take the arguments.
    """
    file, colon, call = text.partition(':')
    if colon:
        return users.load_model(file, call)
    name, arguments = calls.parse(text)
    if name not in MODELS:
        raise ValueError(calls.unknown('model', name, [*MODELS, 'FILE.py:MODEL(...)']))
    return users.with_fields(MODELS[name], arguments)
