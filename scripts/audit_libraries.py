"""Audits the dense and conv layers of qwix, and writes what came out.

  pip install qwix==0.1.8
  python -m scripts.audit_libraries

The numbers go to docs/results/audit/qwix.json, the tables into the README.md beside it. Takes minutes.
"""

import importlib.metadata
import pathlib

import flax.linen as nn
import jax
import numpy as np

import qat
from experiments.command import run, told
from experiments.errors import UserError
from experiments.results import audits
from experiments.setup.arguments import Parser
from experiments.workdir.files import read_json, write_json, write_text
from qat.auditing.functions import audit_function
from scripts.markdown import between, table

FOLDER = pathlib.Path('docs/results/audit')
KEPT = ('verdict', 'reasons', 'cautions', 'alpha', 'clip_rule', 'absorbing_codes', 'called_again')
QUANTIZERS = [
    (layer, provider, qtype, calibration)
    for provider in ('qt', 'odml')
    for qtype, calibration in (('int4', 'absmax'), ('int8', 'absmax'), ('int4', 'fixed,-1,1'))
    for layer in ('dense', 'conv')
]
KEPT_CODES = {'additional_qt_config': {'use_original_residuals': False}}
LAYERS = [
    ('dense', 'qt', 'int4', {}),
    ('dense', 'qt', 'int8', {}),
    ('dense', 'qt', 'int4', {'bwd_qtype': 'int8'}),
    ('dense', 'qt', 'int4', KEPT_CODES),
    ('dense', 'odml', 'int4', {}),
    ('conv', 'qt', 'int4', {}),
    ('conv', 'qt', 'int8', {}),
    ('conv', 'odml', 'int4', {}),
]


def of_quantizer(library, layer: str, provider: str, qtype: str, calibration: str) -> dict:
    """What the fake-quantizer in a layer is, as a record."""

    def fake_quantize(w):
        return getattr(library, layer)(w, provider, qtype, calibration)

    found = audits.record(audit_function(fake_quantize))
    called = {'layer': layer, 'provider': provider, 'qtype': qtype, 'calibration': calibration}
    return {**called, 'values': len(found['values']), **{key: found[key] for key in KEPT}}


def of_layer(library, layer: str, provider: str, qtype: str, rule: dict) -> dict:
    """Whether a layer's gradient at its inputs reads codes only, and with which weights it is taken, as a record."""
    plain, shape = {'dense': (nn.Dense(8), (4, 16)), 'conv': (nn.Conv(8, (3, 3)), (2, 6, 6, 3))}[layer]
    x = jax.random.normal(jax.random.key(1), shape)
    params = plain.init(jax.random.key(0), x)['params']
    layered = library.quantized(plain, provider, qtype, **rule)
    found = qat.audit_layer(layered, params, x)['kernel']
    rounded = {**params, 'kernel': library.rounded(params['kernel'], qtype)}
    gradients = [_at_inputs(layered, params, x)]
    gradients += [
        _at_inputs(lambda params, x: plain.apply({'params': params}, x), each, x) for each in (params, rounded)
    ]
    own, latent, quantized = (np.asarray(each, np.float64) for each in gradients)
    away = {'from_latent': np.abs(own - latent).max(), 'from_quantized': np.abs(own - quantized).max()}
    away = {key: float(value / np.abs(own).max()) for key, value in away.items()}
    called = {'layer': layer, 'provider': provider, 'qtype': qtype, 'rule': rule}
    return {**called, 'covered': found.covered, 'breaches': found.breaches, 'sure': found.sure, **away}


def _at_inputs(layer, params, x):
    out, back = jax.vjp(lambda x: layer(params, x), x)
    return back(jax.random.uniform(jax.random.key(2), out.shape))[0]


def tables(record: dict) -> dict[str, str]:
    """The tables of the page by the name of their marker."""
    quantizers = [_of_quantizer(each) for each in record['fake_quantizers']]
    layers = [_of_layer(each) for each in record['layers']]
    called = ['layer', 'provider', 'qtype']
    more = ['calibration', 'values', 'verdict', 'clip rule', 'scale', 'absorbing codes']
    distances = ['rule besides', 'reads codes only', 'breach', 'from latent', 'from quantized']
    return {'quantizers': table([*called, *more], quantizers), 'layers': table([*called, *distances], layers)}


def _called(each: dict) -> list[str]:
    return [each['layer'], each['provider'], each['qtype']]


def _of_quantizer(each: dict) -> list[str]:
    found = [f'`{each["calibration"]}`', str(each['values']), each['verdict'], each['clip_rule']]
    scale = 'moving' if each['called_again']['other_weights'] else 'fixed'
    return [*_called(each), *found, scale, ', '.join(map(str, each['absorbing_codes'])) or 'none']


def _of_layer(each: dict) -> list[str]:
    rule, answer = f'`{each["rule"]}`' if each['rule'] else '', 'yes' if each['covered'] else 'no'
    numbers = (max(each['breaches'].values(), default=0), each['from_latent'], each['from_quantized'])
    return [*_called(each), rule, answer, *(f'{number:.2g}' for number in numbers)]


def with_tables(text: str, record: dict) -> str:
    """The page with the tables between their markers."""
    for name, written in tables(record).items():
        text = between(text, name, written, FOLDER / 'README.md')
    return text


@told
def main(argv: list[str]) -> int:
    """Runs the command line without the program's name; returns the exit code."""
    parser = Parser(description=__doc__)
    parser.add_argument('--page', action='store_true', help='only write the tables again, from qwix.json')
    if not parser.parse_args(argv).page:
        try:
            from scripts.auditing import qwix_layers  # not among the requirements
        except ImportError as error:
            raise UserError(f'{error}: pip install qwix==0.1.8') from error
        versions = {name: importlib.metadata.version(name) for name in ('qwix', 'jax', 'flax')}
        quantizers = [of_quantizer(qwix_layers, *each) for each in QUANTIZERS]
        layers = [of_layer(qwix_layers, *each) for each in LAYERS]
        write_json(FOLDER / 'qwix.json', {'versions': versions, 'fake_quantizers': quantizers, 'layers': layers})
    page = FOLDER / 'README.md'
    write_text(page, with_tables(page.read_text(encoding='utf-8'), read_json(FOLDER / 'qwix.json')))
    return 0


if __name__ == '__main__':
    run(main)
