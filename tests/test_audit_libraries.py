"""The page of audited libraries: its tables are those of its numbers, and its findings hold."""

import json

import pytest

from scripts import audit_libraries

PAGE, NUMBERS = audit_libraries.FOLDER / 'README.md', audit_libraries.FOLDER / 'qwix.json'
OF_QWIX = pytest.mark.filterwarnings("ignore:'VariableState' was removed:DeprecationWarning")  # raised inside it
RECORD = json.loads(NUMBERS.read_text(encoding='utf-8'))


def test_the_page_shows_its_numbers():
    text = PAGE.read_text(encoding='utf-8')
    assert audit_libraries.with_tables(text, RECORD) == text
    assert all(f'{name} {version}' in text for name, version in RECORD['versions'].items())


@pytest.mark.slow
@OF_QWIX
@pytest.mark.parametrize('place', range(len(audit_libraries.LAYERS)))
def test_what_is_said_of_layers_holds(place):
    pytest.importorskip('qwix')
    from scripts.auditing import qwix_layers

    found = audit_libraries.of_layer(qwix_layers, *audit_libraries.LAYERS[place])
    latent = found['from_latent'] < 1e-6
    assert (found['covered'], latent) == (RECORD['layers'][place]['covered'], not found['covered'])


@pytest.mark.slow
@OF_QWIX
@pytest.mark.parametrize('layer, rule', [('dense', 'boundary_zero below, round_clamp above'), ('conv', 'pass')])
def test_what_is_said_of_a_fixed_range_holds(layer, rule):
    pytest.importorskip('qwix')
    from scripts.auditing import qwix_layers

    found = audit_libraries.of_quantizer(qwix_layers, layer, 'qt', 'int4', 'fixed,-1,1')
    assert (found['clip_rule'], found['values']) == (rule, 16)
