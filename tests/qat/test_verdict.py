"""The verdict's three answers and their thresholds, from theory.md."""

import pytest

from qat.lockstep.verdict import verdict


def said(transfer_class, alpha, **errors):
    twins = {name: {'weight_alignment_error': error} for name, error in errors.items()}
    return verdict('mine()', 'sgd', transfer_class, alpha, twins).partition(',')[0].partition(':')[0]


@pytest.mark.parametrize(
    'transfer_class, alpha, errors, expected',
    [
        ('map', 0.5, {'ste': 0.09, 'naive_ste': 0.30, 'jitter': 0.01}, 'Yes'),
        ('map', 0.5, {'ste': 0.19, 'naive_ste': 0.60, 'jitter': 0.05}, 'Yes'),  # 4 x jitter
        ('map', 0.5, {'ste': 0.11, 'naive_ste': 0.60, 'jitter': 0.02}, 'Not shown by this run'),  # above 0.1
        ('map', 0.5, {'ste': 0.09, 'naive_ste': 0.26, 'jitter': 0.03}, 'Not shown by this run'),  # above a third
        ('map', 0.95, {'ste': 0.09, 'naive_ste': 0.09, 'jitter': 0.03}, 'Yes'),  # the recipe changes little
        ('map', 0.5, {'ste': 0.09, 'jitter': 0.03}, 'Not shown by this run'),
        ('identity', 0.5, {'ste': 0.09, 'naive_ste': 0.09, 'jitter': 0.03}, 'Yes'),
        ('identity', 0.5, {'ste': 0.2, 'jitter': 0.04}, 'Not shown by this run'),
        ('none', 0.5, {'naive_ste': 0.5, 'map_ste': 0.13, 'jitter': 0.03}, 'No'),
        ('none', 0.5, {'naive_ste': 0.5, 'map_ste': 0.11, 'jitter': 0.03}, 'Not shown by this run'),
        ('identity', None, {'naive_ste': 0.2, 'jitter': 0.03}, 'No'),
        ('none', 0.5, {'jitter': 0.03}, 'Not shown by this run'),
        ('map', 0.5, {'ste': 0.01, 'naive_ste': 0.3}, 'Not shown by this run'),
        ('map', 0.5, {'ste': None, 'naive_ste': None, 'jitter': None}, 'Not shown by this run'),
    ],
)
def test_answers(transfer_class, alpha, errors, expected):
    if expected == 'Yes':
        assert verdict(
            'mine()', 'sgd', transfer_class, alpha, {k: {'weight_alignment_error': v} for k, v in errors.items()}
        ).startswith('Yes, ')
    else:
        assert said(transfer_class, alpha, **errors) == expected
