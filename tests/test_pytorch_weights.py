"""Weights of PyTorch: the same logits as an independent forward pass in numpy, and one line for every bad file."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from experiments import train
from experiments.errors import UserError, tell
from experiments.workdir import initial_weights
from qat.models.cifar_resnet import CifarResNet
from qat.models.convnet import ConvNet
from qat.models.resnet import ResNet50

RANDOM = np.random.default_rng(0)


def batch_norm(name: str, channels: int) -> dict[str, np.ndarray]:
    """No two of the four vectors are alike, so that none can be taken for another."""
    return {
        f'{name}.weight': RANDOM.uniform(0.5, 1.5, channels),
        f'{name}.bias': RANDOM.normal(size=channels),
        f'{name}.running_mean': RANDOM.normal(1, 1, channels),
        f'{name}.running_var': RANDOM.uniform(2, 4, channels),
        f'{name}.num_batches_tracked': np.array(1000),
    }


def convolution(name: str, outputs: int, inputs: int, size: int) -> dict[str, np.ndarray]:
    return {f'{name}.weight': RANDOM.normal(0, (2 / inputs) ** 0.5 / size, (outputs, inputs, size, size))}


def linear(name: str, outputs: int, inputs: int) -> dict[str, np.ndarray]:
    return {f'{name}.weight': RANDOM.normal(0, 0.2, (outputs, inputs)), f'{name}.bias': RANDOM.normal(size=outputs)}


def resnet20(classes: int = 10) -> dict[str, np.ndarray]:
    """Its state_dict: basic blocks, three a stage, no weights in the shortcuts."""
    found = convolution('conv1', 16, 3, 3) | batch_norm('bn1', 16) | linear('linear', classes, 64)
    inputs = 16
    for stage, channels in ((1, 16), (2, 32), (3, 64)):
        for block in range(3):
            name = f'layer{stage}.{block}'
            found |= convolution(f'{name}.conv1', channels, inputs, 3) | batch_norm(f'{name}.bn1', channels)
            found |= convolution(f'{name}.conv2', channels, channels, 3) | batch_norm(f'{name}.bn2', channels)
            inputs = channels
    return in_float32(found)


def small_resnet50() -> dict[str, np.ndarray]:
    """The state_dict of torchvision's ResNet of bottleneck blocks, with stages of 2 and 1 blocks."""
    found = convolution('conv1', 64, 3, 7) | batch_norm('bn1', 64) | linear('fc', 5, 512)
    for name, inputs, channels in (('layer1.0', 64, 64), ('layer1.1', 256, 64), ('layer2.0', 256, 128)):
        found |= convolution(f'{name}.conv1', channels, inputs, 1) | batch_norm(f'{name}.bn1', channels)
        found |= convolution(f'{name}.conv2', channels, channels, 3) | batch_norm(f'{name}.bn2', channels)
        found |= convolution(f'{name}.conv3', 4 * channels, channels, 1) | batch_norm(f'{name}.bn3', 4 * channels)
        if inputs != 4 * channels:
            found |= convolution(f'{name}.downsample.0', 4 * channels, inputs, 1)
            found |= batch_norm(f'{name}.downsample.1', 4 * channels)
    return in_float32(found)


def in_float32(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: tensor.astype(np.float32) if tensor.ndim else tensor for name, tensor in tensors.items()}


def windows(x: np.ndarray, size: int, stride: int, pad: int, filling: float) -> np.ndarray:
    """(batch, channels, size, size, height, width), every window of padded images (batch, channels, ., .)."""
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)), constant_values=filling)
    return np.moveaxis(np.lib.stride_tricks.sliding_window_view(x, (size, size), (2, 3)), (2, 3), (4, 5))[
        ..., ::stride, ::stride
    ]


class Torch:
    """PyTorch's layers in numpy, by the names of a state_dict; images are (batch, channels, height, width)."""

    def __init__(self, tensors):
        self.tensors = tensors

    def conv(self, name, x, stride=1):
        kernel = self.tensors[f'{name}.weight']
        size = kernel.shape[2]
        return np.einsum('oiyx,biyxhw->bohw', kernel, windows(x, size, stride, size // 2, 0), optimize=True)

    def norm(self, name, x):
        weight, bias, mean, var = (
            self.tensors[f'{name}.{part}'][:, None, None] for part in ('weight', 'bias', 'running_mean', 'running_var')
        )
        return (x - mean) / np.sqrt(var + 1e-5) * weight + bias

    def linear(self, name, x):
        return x @ self.tensors[f'{name}.weight'].T + self.tensors[f'{name}.bias']

    def stem(self, x, stride=1):
        return relu(self.norm('bn1', self.conv('conv1', x, stride)))


def relu(x):
    return np.maximum(x, 0)


def logits_of_resnet20(tensors, images):
    torch = Torch(tensors)
    x = torch.stem(images)
    for stage, block in ((stage, block) for stage in (1, 2, 3) for block in range(3)):
        name, stride = f'layer{stage}.{block}', 2 if stage > 1 and block == 0 else 1
        y = relu(torch.norm(f'{name}.bn1', torch.conv(f'{name}.conv1', x, stride)))
        y = torch.norm(f'{name}.bn2', torch.conv(f'{name}.conv2', y))
        if stride == 2:  # as the published implementation: F.pad(x[:, :, ::2, ::2], (..., planes // 4, planes // 4))
            nothing = np.zeros((len(x), y.shape[1] // 4, *y.shape[2:]))
            x = np.concatenate([nothing, x[:, :, ::2, ::2], nothing], axis=1)
        x = relu(x + y)
    return torch.linear('linear', x.mean((2, 3)))


def logits_of_small_resnet50(tensors, images):
    torch = Torch(tensors)
    x = windows(torch.stem(images, stride=2), 3, 2, 1, -np.inf).max((2, 3))
    for name, stride in (('layer1.0', 1), ('layer1.1', 1), ('layer2.0', 2)):
        y = relu(torch.norm(f'{name}.bn1', torch.conv(f'{name}.conv1', x)))
        y = relu(torch.norm(f'{name}.bn2', torch.conv(f'{name}.conv2', y, stride)))
        y = torch.norm(f'{name}.bn3', torch.conv(f'{name}.conv3', y))
        if f'{name}.downsample.0.weight' in tensors:
            x = torch.norm(f'{name}.downsample.1', torch.conv(f'{name}.downsample.0', x, stride))
        x = relu(x + y)
    return torch.linear('fc', x.mean((2, 3)))


def like(model, size: int = 12) -> tuple[dict, dict]:
    images = jnp.zeros((1, size, size, 3))
    variables = dict(jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False)))
    return variables.pop('params'), variables


PAIRS = {
    'basic blocks': (CifarResNet(20), resnet20, logits_of_resnet20),
    'bottlenecks': (ResNet50(classes=5, stages=(2, 1)), small_resnet50, logits_of_small_resnet50),
}


@pytest.mark.parametrize('case', PAIRS)
def test_the_logits_are_those_of_pytorch(case, tmp_path):
    """Images are no squares, so that no two axes of a kernel can be exchanged unnoticed."""
    model, state_dict, logits = PAIRS[case]
    tensors, images = state_dict(), RANDOM.normal(size=(2, 3, 18, 25)).astype(np.float32)
    save_file(tensors, tmp_path / 'model.safetensors')
    params, state = initial_weights.read(str(tmp_path / 'model.safetensors'), like(model))
    variables = {'params': params, **state}
    found = jax.jit(lambda variables, x: model.apply(variables, x, train=False))(
        variables, images.transpose(0, 2, 3, 1)
    )
    expected = logits(tensors, images)
    assert np.ptp(expected) > 1
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize('dtype', [jnp.bfloat16, np.float16, np.float64])
def test_other_floats_are_taken_as_float32_and_wrappers_names_too(dtype, tmp_path):
    tensors = {f'module.{name}': tensor.astype(dtype) for name, tensor in resnet20().items()}
    save_file(tensors, tmp_path / 'model.safetensors')
    params, state = initial_weights.read(str(tmp_path / 'model.safetensors'), like(CifarResNet(20)))
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves((params, state)))
    kernel = tensors['module.layer2.0.conv1.weight'].astype(np.float32)
    assert np.array_equal(params['stage2_block1']['conv1']['kernel'][1, 2, 3, 4], kernel[4, 3, 1, 2])
    assert np.array_equal(params['classifier']['kernel'][5, 6], tensors['module.linear.weight'][6, 5])


def without(tensors, name):
    return {other: tensor for other, tensor in tensors.items() if other != name}


# The tensors of a file for ResNet-20 -> what is said of them.
MISFITS = {
    'another depth': (
        lambda: {name.replace('layer3.2', 'layer3.3'): tensor for name, tensor in resnet20().items()},
        '10 unknown (layer3.3.bn1.bias, layer3.3.bn1.running_mean, ...); set --config.model to its model',
    ),
    'bottlenecks': (small_resnet50, 'is of another model: '),
    'more classes': (
        lambda: resnet20(100),
        '2 of another shape (fc.bias (100,) in place of (10,), fc.weight (100, 64) in place of (10, 64)); '
        'give the model as many classes, as in resnet20(classes=100)',
    ),
    'one less': (lambda: without(resnet20(), 'bn1.running_var'), '1 missing (bn1.running_var); set --config.model'),
    'integers': (lambda: resnet20() | {'bn1.bias': np.zeros(16, np.int8)}, '1 no floats (bn1.bias)'),
    'flax layout': (
        lambda: resnet20() | {'conv1.weight': np.zeros((3, 3, 3, 16), np.float32)},
        '1 of another shape (conv1.weight (3, 3, 3, 16) in place of (16, 3, 3, 3))',
    ),
    'nothing': (lambda: {'x': np.zeros(1, np.float32)}, '1 unknown (x)'),
    'twice': (
        lambda: resnet20() | {'module.bn1.bias': np.zeros(16, np.float32)},
        'has one weight twice, as bn1.bias and module.bn1.bias; leave one out',
    ),
}


def line_of(path, model, capsys) -> str:
    """What a user reads, who gives this as init_from."""
    with pytest.raises(UserError) as refusal:
        initial_weights.read(str(path), like(model))
    tell(refusal.value)
    line = capsys.readouterr().err
    assert line.startswith('error: init_from: ') and line.count('\n') == 1 and len(line) <= 308
    return line


@pytest.mark.parametrize('case', MISFITS)
def test_weights_that_do_not_fit_are_named(case, tmp_path, capsys):
    tensors, said = MISFITS[case]
    save_file(tensors(), tmp_path / 'm.safetensors')
    assert said in line_of(tmp_path / 'm.safetensors', CifarResNet(20), capsys)


def eight_bits(size: int) -> bytes:
    """A file of one tensor in float8, which numpy does not have."""
    header = json.dumps({'x': {'dtype': 'F8_E4M3', 'shape': [size], 'data_offsets': [0, size]}}).encode()
    return len(header).to_bytes(8, 'little') + header + bytes(size)


# The name of a file and what it holds, made from that of a good one -> what is said.
NO_FILES = {
    'truncated': ('m.safetensors', lambda good: good[:-1], 'it is truncated or no .safetensors file'),
    'cut in its header': ('m.safetensors', lambda good: good[:100], 'it is truncated or no .safetensors file'),
    'empty': ('m.safetensors', lambda good: b'', 'it is truncated or no .safetensors file'),
    'renamed pickle': ('m.safetensors', lambda good: b'PK\x03\x04' + good, 'it is truncated or no .safetensors file'),
    'pickle': ('m.pth', lambda good: b'PK\x03\x04', "safetensors.torch.save_file(model.state_dict(), 'model.safeten"),
    'missing': ('m.safetensors', lambda good: None, 'there is no file'),
    'a byte a weight': ('m.safetensors', lambda good: eight_bits(400), 'has weights in 8 bits or fewer'),
}


@pytest.mark.parametrize('case', NO_FILES)
def test_what_is_no_such_file_is_said(case, tmp_path, capsys):
    name, content, said = NO_FILES[case]
    save_file({'x': np.zeros(100, np.float32)}, tmp_path / 'good')
    held = content((tmp_path / 'good').read_bytes())
    if held is not None:
        (tmp_path / name).write_bytes(held)
    assert said in line_of(tmp_path / name, CifarResNet(20), capsys)


def test_only_a_resnet_takes_them(tmp_path, capsys):
    save_file(resnet20(), tmp_path / 'm.safetensors')
    assert 'into a ResNet alone, as in --config.model=resnet20' in line_of(
        tmp_path / 'm.safetensors', ConvNet(), capsys
    )


@pytest.mark.slow
def test_a_run_begins_with_them_and_another_content_is_another_run(tmp_path, capsys):
    """Before the first step its accuracy and loss are those of the forward pass in numpy."""
    tensors, file = resnet20(), tmp_path / 'model.safetensors'
    save_file(tensors, file)
    arrays = {f'{split}_images': RANDOM.integers(0, 256, (40, 8, 8, 3), np.uint8) for split in ('train', 'validation')}
    arrays |= {f'{split}_labels': np.arange(40) % 10 for split in ('train', 'validation')}
    np.savez(tmp_path / 'mine.npz', **arrays)
    command = [
        *('--config=configs/digits.py', '--config.model=resnet20', '--config.quantized=none', '--config.max_steps=1'),
        *(f'--config.dataset={tmp_path / "mine.npz"}', f'--config.init_from={file}', '--config.batch_size=40'),
        f'--workdir={tmp_path / "run"}',
    ]
    assert train.main(command) == 0
    first = json.loads((tmp_path / 'run/metrics.jsonl').read_text().splitlines()[0])
    logits = logits_of_resnet20(tensors, arrays['validation_images'].transpose(0, 3, 1, 2) / 255)
    log_sums = np.log(np.exp(logits).sum(axis=1))
    assert first['eval/loss'] == pytest.approx((log_sums - logits[np.arange(40), np.arange(40) % 10]).mean(), rel=1e-3)
    save_file(tensors | {'bn1.bias': np.zeros(16, np.float32)}, file)
    capsys.readouterr()
    assert train.main(command) == 2
    assert 'model.safetensors: not what it was when the run' in capsys.readouterr().err
