"""What an audit found: in words, and as a record."""

import math
from collections.abc import Mapping

import numpy as np

from experiments.results import audit_recipe
from experiments.results.audit_calls import probed_in_words
from qat.auditing.audits import DISGUISED, NOT_COVERED, STE, UNKNOWN, Audit, written
from qat.auditing.functions import MOVING_SCALE
from qat.auditing.matching import Match
from qat.optimizers import Optimizer
from qat.theory.weight_map import WeightMap
from qat.transfer import Transfer, with_moving_range

_ANSWERS = {
    STE: 'it is the straight-through estimator itself',
    DISGUISED: 'an STE in disguise: the theorem covers it',
    NOT_COVERED: 'not covered by the theorem: {}',
    UNKNOWN: 'these samples do not tell',
}
_LISTED = 8
_ON_TABLE = 17  # offsets at which M is told


def words(audit: Audit, transfer: Transfer | None = None, optimizer: Optimizer | None = None) -> dict[str, str]:
    """What was found, as sentences by their label; what was not asked for or does not exist is ''.

    Args:
      audit: what was found.
      transfer: of the optimizer that a recipe is asked for; None: none is.
      optimizer: that one.
    """
    doubts = '; '.join(audit.doubts) and f'{": " if audit.verdict == UNKNOWN else "; but "}{"; ".join(audit.doubts)}'
    said = {'Answer': _ANSWERS[audit.verdict].format('; '.join(audit.reasons)) + doubts}
    if audit.reasons and not audit.identity_reasons:
        said['Adam and its like'] = 'STE with nothing changed acts like it while kappa is small'
    said['Caution'] = '; '.join(audit.cautions)
    said['Estimator'] = _estimator_in_words(audit)
    said['alpha'] = '' if audit.alpha is None else f'{audit.alpha:.6g}, the harmonic mean of the slope over a cell'
    said |= _levels_in_words(audit) | _slope_in_words(audit)
    if audit.moved and not audit.moved.equal:
        factor = audit.moved.factor
        said['As STE'] = (
            f'same values, thresholds at {_listed(audit.moved.thresholds)}, learning rate times {factor:.4g}'
        )
    said['Called again'] = probed_in_words(audit.probed)
    if transfer:
        said |= audit_recipe.words(audit, transfer, optimizer)
    said['Missing'] = '; '.join(audit.notes)
    return said


def record(audit: Audit, transfer: Transfer | None = None) -> dict:
    """The same as JSON values; what does not exist, or cannot be known, is None."""
    return {
        'verdict': audit.verdict,
        'reasons': list(audit.reasons),
        'reasons_under_adam': list(audit.identity_reasons),
        'cautions': list(audit.cautions),
        'doubts': list(audit.doubts),
        'missing': list(audit.notes),
        'matches': [_record_of_match(match) for match in audit.matches],
        'alpha': audit.alpha,
        'M': _map(audit),
        'samples': audit.samples.w.size,
        **_record_of_levels(audit),
        **_record_of_slope(audit),
        'moved_thresholds': list(audit.moved.thresholds) if audit.moved else None,
        'moved_learning_rate_factor': audit.moved.factor if audit.moved else None,
        'alpha_by_cell': list(audit.moved.alphas) if audit.moved else None,
        'called_again': vars(audit.probed) if audit.probed else None,
        **audit_recipe.record(audit, transfer),
    }


def _record_of_match(match: Match) -> dict:
    of_call = {'name': match.name, 'call': written(match)}
    numbers = {'parameters': dict(match.parameters), 'context': dict(match.context), 'residual': match.residual}
    return {**of_call, **numbers}


def _record_of_levels(audit: Audit) -> dict:
    levels = audit.levels
    return {
        'values': levels.values.tolist(),
        'thresholds': levels.thresholds.tolist() if levels.monotone else None,
        'threshold_errors': levels.errors.tolist() if levels.monotone else None,
        'step_sizes': levels.step_sizes.tolist(),
        'uniform': levels.uniform,
        'symmetric': levels.symmetric,
        'midway': levels.midway,
        'zero_point': levels.zero_point,
        'levels_sure': levels.sure,
    }


def _record_of_slope(audit: Audit) -> dict:
    outside, pooled = audit.outside, audit.pooled
    return {
        'clip_rule': outside.rule if outside else None,
        'clip_reach': _finite(outside.reach) if outside else None,
        'clip_sure': outside.sure if outside else None,
        'absorbing_codes': list(outside.absorbing) if outside else None,
        'slope': _curve(audit),
        'cells_agree': pooled.agree if pooled and pooled.tells else None,
        'disagreement_by_gap': pooled.disagreement.tolist() if pooled else None,
        'jumps': list(pooled.jumps) if audit.has_slope else None,
        'negative': bool(pooled.slope.min() < 0) if audit.has_slope else None,
        'slope_sure': pooled.sure if pooled else None,
    }


def transfer_of(audit: Audit, transfer: Transfer) -> Transfer:
    """The transfer class where the audited scale moves with the weights."""
    return with_moving_range(transfer, MOVING_SCALE) if audit.probed and audit.probed.other_weights else transfer


def _estimator_in_words(audit: Audit) -> str:
    if audit.matches:
        family = ' (one family: these samples cannot tell them apart)' if len(audit.matches) > 1 else ''
        worst = max(match.residual for match in audit.matches)
        context = dict(audit.matches[0].context)
        moment = '; of a gradient of this sign' if 'gradient' in context else ''
        if 'progress' in context:
            moment = '; at this moment' + ('; parameters as if it were the last' if audit.matches[0].parameters else '')
        return f'{" or ".join(audit.names)}{family}, to {worst:.1g} of the largest slope{moment}'
    if audit.estimator and audit.pooled.constant is not None:
        return f'the slope is {audit.pooled.constant:.6g} everywhere: ste, with its learning rate times that'
    return 'none of the catalogue' if audit.estimator else ''


def _levels_in_words(audit: Audit) -> dict[str, str]:
    levels = audit.levels
    zero = levels.zero_point
    spacing = f'evenly spaced by {levels.step_sizes.mean():.6g}' if levels.uniform else 'not evenly spaced'
    symmetric = 'symmetric' if levels.symmetric else 'not symmetric'
    point = '' if zero is None else f', zero point {zero:g}' + (' (0 is no value)' if zero % 1 else '')
    said = {'Values': f'{levels.values.size}: {_listed(levels.values)}; {spacing}, {symmetric}{point}'}
    if levels.monotone:
        where = 'midway between values' if levels.midway else 'not midway between values'
        said['Thresholds'] = f'{_listed(levels.thresholds)}; {where}'
    said['How sure'] = levels.sure
    return said


def _slope_in_words(audit: Audit) -> dict[str, str]:
    outside, pooled = audit.outside, audit.pooled
    if outside is None or not audit.has_slope:
        return {}
    agree = 'the same in every cell' if pooled.agree else 'not the same in every cell'
    agree = agree if pooled.tells else 'whether the same in every cell cannot be told'
    least, largest = float(pooled.slope.min()), float(pooled.slope.max())
    said = f'from {least:.4g} to {largest:.4g}, {agree} ({pooled.sure})'
    said += f'; jumps at r = {_listed(pooled.jumps)}' if pooled.jumps else ''
    said += '; negative somewhere' if least < 0 else ''
    codes = f'; codes {_listed(outside.absorbing)} absorb weights: no gradient leaves them' if outside.absorbing else ''
    reach = (
        '' if not math.isfinite(outside.reach) or outside.reach <= 0 else f', up to {outside.reach:.4g} gaps outside'
    )
    reach += ', gradients pass as far as there are samples' if outside.rule == 'other' and outside.reach > 1e9 else ''
    return {'Slope': said, 'Clip rule': f'{outside.rule}{reach} ({outside.sure}){codes}'}


def _map(audit: Audit) -> dict | None:
    if audit.reasons or audit.estimator is None or audit.alpha is None:
        return None
    offsets = np.linspace(-0.5, 0.5, _ON_TABLE, dtype=np.float32)
    moved = np.asarray(WeightMap(audit.estimator).on_offsets(offsets))
    return {'offset': offsets.tolist(), 'moved': moved.tolist()}


def _curve(audit: Audit) -> Mapping | None:
    if not audit.has_slope or not audit.pooled.agree:
        return None
    offsets, slopes = audit.pooled.curve
    return {'offset': offsets[::16].tolist(), 'slope': slopes[::16].tolist()}


def _finite(number: float) -> float | None:
    return float(number) if math.isfinite(number) else None


def _listed(numbers) -> str:
    numbers = [f'{number:.4g}' for number in numbers]
    if len(numbers) <= _LISTED:
        return ', '.join(numbers)
    return f'{", ".join(numbers[:3])} ... {", ".join(numbers[-3:])}'
