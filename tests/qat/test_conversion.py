"""The rule for weights and optimizer's state, by itself: exact where weights stand still, the same coasting outside."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qat import calls, clipping, estimators, optimizers
from qat.lockstep.conversion import Conversion
from qat.lockstep.state import RunState
from qat.optimizers import FAMILIES
from qat.quantizers import UniformQuantizer
from qat.slopes import CATALOGUE
from qat.theory.coverage import NotCovered
from qat.theory.weight_map import WeightMap, alpha, alpha_if_covered

QUANTIZER = UniformQuantizer(2)
DSQ, STE = (estimators.make(name, 2) for name in ('dsq', 'ste'))
RANGES, PATHS = {'conv': jnp.float32(1)}, {'conv': 'conv/kernel'}
INSIDE, OUTSIDE = np.linspace(-1, 1, 41, dtype=np.float32), np.float32([-1.5, -1.01, 1.01, 1.5])


def state_of(optimizer, w, gradients) -> RunState:
    """A run that stood still while these gradients of its weights came in; the bias has them too."""
    params = {'conv': {'kernel': jnp.asarray(w), 'bias': jnp.asarray(w)}}
    built = optimizer.build(0.1)
    opt_state = built.init(params)
    for gradient in gradients:
        _, opt_state = built.update({'conv': {'kernel': gradient[0], 'bias': gradient[1]}}, opt_state, params)
    return RunState(params, {}, opt_state, jnp.float32(0))


def closes(one, other, **tolerance):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other)):
        np.testing.assert_allclose(a, b, **tolerance)


CONVERTED = [
    'sgd',
    'sgd(momentum=0.9)',
    'sgd(momentum=0.9, nesterov=True)',
    'sgdw(momentum=0.9)',
    'signsgd',
    'adam(eps=0.0)',
    'adamw(eps=0.0)',
    'rmsprop(eps=0.0)',
    'rmsprop(momentum=0.9, eps=0.0)',
    'rmsprop(momentum=0.9, centered=True, eps=0.0)',
    'lion',
]


make = optimizers.parse


@pytest.mark.parametrize('text', CONVERTED)
@pytest.mark.parametrize('name', ['dsq', 'dge', 'rdfs'])
def test_the_state_becomes_what_STE_would_have_gathered(text, name):
    """Weights that stand still have one slope, so that the rule is exact."""
    optimizer, estimator = make(text), estimators.make(name, 2)
    conversion, back = (Conversion(*pair, optimizer, 'gradient') for pair in ((estimator, STE), (STE, estimator)))
    gradients = np.random.default_rng(0).normal(size=(5, INSIDE.size)).astype(np.float32)
    slope = np.asarray(estimator.at(INSIDE, jnp.float32(1)))
    first = state_of(optimizer, INSIDE, [(slope * g, g) for g in gradients])
    found = conversion(first, RANGES, PATHS)
    closes(found.opt_state, state_of(optimizer, INSIDE, [(g, g) for g in gradients]).opt_state, rtol=1e-3, atol=1e-6)
    closes(back(found, RANGES, PATHS), first, rtol=1e-3, atol=1e-6)


def test_every_optimizer_with_a_recipe_has_its_rule():
    classes = {name: optimizers.make(name).transfer('gradient').transfer_class for name in optimizers.FAMILIES}
    assert {calls.parse(text)[0] for text in CONVERTED} == {name for name, found in classes.items() if found != 'none'}
    # All but SignSGD remember something of the gradients.
    remembering = {name for name, family in FAMILIES.items() if family.moments}
    assert remembering == {calls.parse(text)[0] for text in CONVERTED} - {'signsgd'}


@pytest.mark.parametrize('text', ['sgd(momentum=0.9)', 'sgd(momentum=0.9, nesterov=True)', 'adam', 'rmsprop', 'lion'])
def test_outside_the_range_both_coast_alike(text):
    optimizer = make(text)
    conversion = Conversion(DSQ, STE, optimizer, 'gradient')
    gradients = np.random.default_rng(0).normal(size=(3, OUTSIDE.size)).astype(np.float32)
    first = state_of(optimizer, OUTSIDE, [(g, g) for g in gradients])
    second = conversion(first, RANGES, PATHS)
    assert np.array_equal(second.params['conv']['kernel'], OUTSIDE)
    nothing = jax.tree.map(jnp.zeros_like, first.params)
    updates = [optimizer.build(0.1).update(nothing, run.opt_state, run.params)[0] for run in (first, second)]
    one, other = (update['conv']['kernel'] for update in updates)
    np.testing.assert_allclose(other * conversion.kernel_learning_rate_factor(1.0), one, rtol=1e-4)


@pytest.mark.parametrize('text', ['adam', 'muon', 'adafactor(multiply_by_parameter_scale=False, momentum=0.9)'])
def test_on_updates_the_state_stays_and_the_weights_move(text):
    conversion = Conversion(DSQ, STE, make(text), 'update')
    w = np.concatenate([INSIDE, OUTSIDE]).reshape(3, 15)
    first = state_of(make(text), w, [(w, w)])
    second = conversion(first, RANGES, PATHS)
    for one, other in zip(jax.tree.leaves(first.opt_state), jax.tree.leaves(second.opt_state)):
        assert one is other
    assert np.array_equal(second.params['conv']['kernel'], WeightMap(DSQ)(jnp.asarray(w), jnp.float32(1)))
    assert np.array_equal(second.params['conv']['bias'], w)
    assert conversion.kernel_learning_rate_factor(1.0) == alpha(DSQ)


@pytest.mark.slow
@pytest.mark.parametrize('name', [name for name in CATALOGUE if alpha_if_covered(estimators.make(name, 2))])
@pytest.mark.parametrize('rule', ['scalar', 'channels'])
def test_codes_are_kept_both_ways(name, rule):
    estimator = estimators.make(name, 2)
    ste = estimators.ste_with_clip_of(estimator)
    ranges = {'conv': jnp.float32(0.7) if rule == 'scalar' else jnp.float32([[0.5, 0.7, 0.9]])}
    w = np.random.default_rng(0).uniform(-1, 1, (3000, 3)).astype(np.float32)
    optimizer = make('sgd(momentum=0.9)')
    first = state_of(optimizer, w, [(w, w)])
    second = Conversion(estimator, ste, optimizer, 'gradient')(first, ranges, PATHS)
    third = Conversion(ste, estimator, optimizer, 'gradient')(second, ranges, PATHS)
    range = ranges['conv']
    for run in (second, third):
        assert np.array_equal(*(QUANTIZER.codes(one.params['conv']['kernel'], range) for one in (first, run)))
    closes(third, first, rtol=1e-4, atol=1e-6)
    if name == 'ste':
        closes(second, first, rtol=0, atol=0)


@pytest.mark.parametrize(
    'source, target, optimizer, message',
    [
        ('dsq', 'ste', 'muon', 'no recipe is known: muon mixes'),
        ('ewgs', 'ste', 'sgd', 'incoming gradient'),
        ('mad', 'dsq', 'sgd', r'only one of mad and dsq\(k=6.5\) passes gradients outside'),
    ],
)
def test_what_cannot_be_converted_is_refused(source, target, optimizer, message):
    with pytest.raises(NotCovered, match=message):
        Conversion(estimators.make(source, 2), estimators.make(target, 2), make(optimizer), 'gradient')


def test_with_trust_the_weights_that_move_must_be_the_same():
    """M moves how far gradients pass: STE in place of DSQ with T has alpha T, and T where nothing moves."""
    plain = estimators.make('dsq', 2)
    dsq, ste, moved = (
        dataclasses.replace(estimators.make(name, 2), clip=clipping.parse(f'trust(T={T})', QUANTIZER))
        for name, T in (('dsq', 0.5), ('ste', 0.5), ('ste', 0.5 * alpha(plain)))
    )
    with pytest.raises(NotCovered, match='outside the range STE in place of dsq'):
        Conversion(dsq, ste, make('sgd'), 'gradient')
    assert Conversion(dsq, moved, make('sgd'), 'gradient') and Conversion(dsq, ste, make('adam'), 'gradient')
