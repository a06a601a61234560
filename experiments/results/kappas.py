"""kappa by layer, and how much the slope can change within it: as JSON values, and in words."""

from collections.abc import Mapping

from experiments.setup.settings import Settings
from qat.theory.sampling import steepness
from qat.theory.small_parameters import KAPPA_WARNING, SLOPE_CHANGE_WARNING, unbounded

WHAT_KAPPA_IS = (
    'how many quantizer steps D a weight can cross at most while the optimizer remembers: peak learning rate / '
    '((1 - b) D), b the longest of its memories'
)
_LISTED_LAYERS = 6


def record(settings: Settings, kappas: Mapping[str, float | None] | None) -> dict:
    """Returns 'kappa' and 'slope_change' by quantized layer, as JSON values.

    A slope_change is kappa times max |d ln s / dr|, None where nothing bounds it. Both are None if `kappas` is.
    """
    return {'kappa': kappas, 'slope_change': None if kappas is None else settings.slope_changes(kappas)}


def words(settings: Settings, kappas: Mapping[str, float]) -> dict[str, str]:
    """Returns the same as sentences by their label."""
    return {'kappa': f'{_by_layer(kappas)}: {WHAT_KAPPA_IS}', 'Slope change': _change_in_words(settings, kappas)}


def what_they_are(settings: Settings, found: Mapping) -> dict[str, str]:
    """Returns the sentences for a report, which say what both are; `found` may lack the values of `record`."""
    kappas = found.get('kappa')
    values = '' if kappas is None else f'{_by_layer(kappas)}: '
    return {'kappa': f'{values}{WHAT_KAPPA_IS}', 'Slope change': _change_in_words(settings, kappas or {})}


def _change_in_words(settings: Settings, kappas: Mapping[str, float]) -> str:
    """Returns what the slope changes by within kappa, and how small that must be."""
    if reason := unbounded(settings.estimator):
        return f'not bounded, since the slope {reason}: kappa must be small, and a run warns above {KAPPA_WARNING:g}'
    if not steepness(settings.estimator):
        return 'none, whatever kappa is: the slope is constant'
    values = f'{_by_layer(settings.slope_changes(kappas))}: ' if kappas else ''
    return (
        f'{values}kappa times {steepness(settings.estimator):.2g}, the largest |d ln s/dr|; how much ln s can change '
        f'at most while the optimizer remembers. A slope cancels where it is small; a run warns above '
        f'{SLOPE_CHANGE_WARNING:g}'
    )


def _by_layer(values: Mapping[str, float]) -> str:
    if len(values) <= _LISTED_LAYERS:
        return ', '.join(f'{layer} {value:.2g}' for layer, value in values.items())
    low, high = (choose(values, key=values.get) for choose in (min, max))
    if f'{values[low]:.2g}' == f'{values[high]:.2g}':
        return f'{values[low]:.2g} in each of {len(values)} layers'
    return f'from {values[low]:.2g} ({low}) to {values[high]:.2g} ({high}) in {len(values)} layers'
