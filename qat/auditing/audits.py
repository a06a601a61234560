"""`qat.audit`: what a fake-quantizer is, from samples of it, and whether the theorem of arXiv 2405.05171 covers it."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from qat import estimators
from qat.auditing import agreement, cells, lacks, levels, matching, outside, samples
from qat.auditing.cells import Pooled
from qat.auditing.levels import Levels
from qat.auditing.matching import Match
from qat.auditing.moved import Moved, moved
from qat.auditing.outside import Outside
from qat.auditing.probing import Probed
from qat.auditing.samples import Samples
from qat.estimators import Estimator
from qat.grids import GridQuantizer
from qat.quantizers import MidTreadQuantizer, Quantizer, TernaryQuantizer, UniformQuantizer
from qat.theory.coverage import cautions as cautions_of
from qat.theory.coverage import conditions_that_fail
from qat.theory.weight_map import alpha_if_covered

STE, DISGUISED, NOT_COVERED, UNKNOWN = 'ste', 'disguised', 'not_covered', 'unknown'  # verdicts
_FEWEST = 16  # samples inside, of which a slope is a function


@dataclasses.dataclass(frozen=True)
class Audit:
    """What samples of a fake-quantizer show. What they cannot show is None, and `notes` or a part's `sure` says why.

    Attributes:
      samples: what it was found from, without duplicates.
      levels: values, thresholds and step sizes.
      outside: the clip rule, and codes that absorb.
      pooled: the slope by offset from a threshold.
      moved: by cell, where the slope is not the same in every cell: STE on other thresholds.
      matches: entries of the catalogue that it may be, the plainest first; () where it is none of them.
      estimator: the first of them, or the slope of the samples as an estimator; None where it is no function of r.
      alpha: the harmonic mean of the slope over a cell; None where there is none.
      reasons: why the theorem does not cover it; () where it does, or where there is no slope to judge.
      identity_reasons: the same under optimizers of transfer class `identity`, Adam and its like, where no M is needed.
      cautions: in what it lies outside the theorem's words though it is covered.
      doubts: why the answer is in doubt, or there is none: noise, too few samples, or bits that do not fit the samples.
      notes: what else the samples lack.
      probed: what else a JAX function did when it was called again; None of what only samples are there of.
    """

    samples: Samples
    levels: Levels
    outside: Outside | None = None
    pooled: Pooled | None = None
    moved: Moved | None = None
    matches: tuple[Match, ...] = ()
    estimator: Estimator | None = None
    alpha: float | None = None
    reasons: tuple[str, ...] = ()
    identity_reasons: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    probed: Probed | None = None

    def __str__(self):
        said = [self.verdict, ' or '.join(self.names), f'clip rule {self.outside.rule}' if self.outside else '']
        said += ['' if self.alpha is None else f'alpha {self.alpha:.6g}', *self.reasons, *self.cautions]
        said += [*self.doubts, *self.notes]
        return '; '.join(clause for clause in said if clause)

    @property
    def verdict(self) -> str:
        """'ste': its slope is 1; 'disguised': the theorem covers it; 'not_covered'; or 'unknown': samples lack slopes,
        are too few or too noisy, or end where values may go on.
        """
        if self.reasons:
            return NOT_COVERED
        if self.alpha is None or self.ends_early:
            return UNKNOWN
        is_plain = self.matches and self.matches[0].name == 'ste'
        return STE if is_plain else DISGUISED

    @property
    def ends_early(self) -> bool:
        """Whether samples end, on a side, before it is known if values go on there."""
        return self.outside is not None and bool(lacks.ends(self.levels, self.outside.sides))

    @property
    def has_slope(self) -> bool:
        """Whether there are slopes inside the values."""
        return self.pooled is not None and self.pooled.r.size > 0

    @property
    def names(self) -> tuple[str, ...]:
        """The matches as calls, 'dsq(k=6.5)'."""
        return tuple(written(match) for match in self.matches)


@dataclasses.dataclass(frozen=True)
class Sampled:
    """A slope that samples have shown, linear between offsets; it can be hashed."""

    offsets: tuple[float, ...]
    slopes: tuple[float, ...]

    def __call__(self, r):
        """The slope of what was audited, between samples: linear interpolation of medians over all of its cells."""
        return jnp.interp(r, jnp.asarray(self.offsets, r.dtype), jnp.asarray(self.slopes, r.dtype))


def audit(w, q, slope=None, *, bits: int | None = None) -> Audit:
    """What a fake-quantizer is, from samples of it; made anywhere, in any framework.

    Args:
      w: weights, any shape and order; evenly spaced ones from below the least value to above the greatest are best.
      q: what each is rounded to, of the same size.
      slope: dq/dw at each, as the gradient has it; None: only values and thresholds are found.
      bits: what the fake-quantizer says of itself; where the samples say otherwise, that is a doubt.

    Raises:
      ValueError: the arrays are no samples of a fake-quantizer; the message says what is missing.
    """
    return of_samples(samples.collect(w, q, slope), bits)


def of_samples(taken: Samples, bits: int | None = None, is_whole: bool = False) -> Audit:
    """`audit` of collected samples; is_whole: no weight can lie further out, as where the range is the largest weight.

    Raises:
      ValueError: as `audit`.
    """
    found = levels.find(taken)
    found = dataclasses.replace(found, ends=(True, True)) if is_whole else found
    notes, doubts = [*taken.notes, *lacks.gaps(taken, found)], tuple(lacks.bits(found, bits))
    if taken.slope is None:
        notes.append('without a third column, dq/dw, nothing is known of the slope')
        return Audit(taken, found, doubts=doubts, notes=tuple(notes))
    if not found.monotone:
        reason = (
            f'q falls at {found.falls.size} of {taken.w.size} samples though w grows, first at w = '
            f'{found.falls[0]:.4g}: chance or noise decides, or codes overflow, and no thresholds exist'
        )
        return Audit(taken, found, reasons=(reason,), identity_reasons=(reason,), doubts=doubts, notes=tuple(notes))
    if not taken.slope.any():
        reason = 'its slope is 0 at every sample: it passes no gradient'
        return Audit(taken, found, reasons=(reason,), identity_reasons=(reason,), doubts=doubts, notes=tuple(notes))
    rule = outside.find(taken, found)
    pooled = cells.pool(taken, found, rule)
    notes += lacks.ends(found, rule.sides)
    known = Audit(taken, found, rule, pooled, doubts=doubts)
    if pooled.r.size < _FEWEST:
        notes.append(
            f'{pooled.r.size} samples with a gradient lie inside the values; it takes {_FEWEST}, 4001 are plenty'
        )
        reasons = _of_the_rule(rule)
        return dataclasses.replace(known, reasons=reasons, identity_reasons=reasons, notes=tuple(notes))
    return _judged(dataclasses.replace(known, notes=tuple(notes)))


def _judged(known: Audit) -> Audit:
    """The same with what the theorem says of its slope."""
    rule, pooled, found = known.outside, known.pooled, known.levels
    reasons, passes = _of_the_rule(rule), rule.rule == 'other' and np.isinf(rule.reach)
    if not pooled.tells:
        return dataclasses.replace(known, doubts=(*known.doubts, lacks.resolution(pooled)))
    if not pooled.agree:
        # A slope that is positive out to the last sample needs no M where it cancels, and no end for N to move.
        return _by_cell(known, () if passes else reasons)
    matches = _told_apart(matching.matches(pooled, np.log2(found.values.size)), rule)
    made = _estimator(matches, pooled, found, rule)
    failing, of_identity = (conditions_that_fail(made, transfer_class) for transfer_class in ('map', 'identity'))
    if failing and not matches and pooled.may_be_noise:  # what a curve through noise fails says nothing of the slope
        return dataclasses.replace(known, doubts=(*known.doubts, lacks.resolution(pooled)))
    if not of_identity:
        pooled = agreement.checked(pooled, made)
        if not pooled.agree:
            return _by_cell(dataclasses.replace(known, pooled=pooled), () if passes else reasons)
    cautions = () if failing else (*cautions_of(made), *_not_midway(found))
    return dataclasses.replace(
        known,
        matches=matches,
        estimator=made,
        alpha=alpha_if_covered(made),
        reasons=(*failing, *reasons),
        identity_reasons=(*of_identity, *(() if passes else reasons)),
        cautions=cautions,
    )


def _by_cell(known: Audit, reasons: tuple[str, ...]) -> Audit:
    """The same where the slope is another from cell to cell."""
    by_cell = moved(known.samples, known.levels)
    signs = () if (known.pooled.slope > 0).all() else ('its slope is not positive everywhere',)
    known = dataclasses.replace(known, moved=by_cell, identity_reasons=(*signs, *reasons))
    reason = 'its slope is not the same in every cell'
    if by_cell is None or not by_cell.equal:
        reason += ', nor is its harmonic mean; it is STE with moved thresholds' if by_cell else ''
        if known.pooled.unlike:
            reason = f'no single slope accounts for every sample: {known.pooled.unlike}'
        return dataclasses.replace(known, reasons=(reason, *signs, *reasons))
    caution = 'its slope differs from cell to cell, its harmonic mean does not: M has another shape in each'
    return dataclasses.replace(known, alpha=by_cell.alphas[0], reasons=reasons, cautions=(caution,))


def _told_apart(matches: tuple[Match, ...], rule: Outside) -> tuple[Match, ...]:
    """Inside, `ste` and `mad` are the same; outside they are not."""
    if rule.rule == 'unknown':
        return matches
    wrong = 'ste' if rule.rule == 'reciprocal' else 'mad'
    return tuple(match for match in matches if match.name != wrong)


def _estimator(matches: tuple[Match, ...], pooled: Pooled, found: Levels, rule: Outside) -> Estimator:
    quantizer = quantizer_of(found)
    if matches:
        made = estimators.make(matches[0].name, quantizer, **dict(matches[0].parameters))
    else:
        offsets, slopes = pooled.curve
        made = Estimator('sampled', quantizer, Sampled(tuple(offsets.tolist()), tuple(slopes.tolist())), ())
    clip = rule.as_clip_rule(found)
    return made if clip is None or rule.rule == 'unknown' else dataclasses.replace(made, clip=clip)


def quantizer_of(found: Levels) -> Quantizer:
    """The quantizer of this project with these values, but for scale and, where they are not symmetric, a shift."""
    count = found.values.size
    if found.uniform and count & (count - 1) == 0:
        return UniformQuantizer(count.bit_length() - 1)
    if found.uniform and count == 3:
        return TernaryQuantizer()
    if found.uniform and (count + 1) & count == 0:
        return MidTreadQuantizer((count + 1).bit_length() - 1)
    half, middle = np.ptp(found.values) / 2, (found.values[0] + found.values[-1]) / 2
    scaled = ((found.values - middle) / half).tolist()
    return GridQuantizer(f'{count} values', (-1.0, *scaled[1:-1], 1.0))


def _of_the_rule(rule: Outside) -> tuple[str, ...]:
    if rule.rule == 'boundary_zero':
        codes = ', '.join(map(str, rule.absorbing))
        return (f'no gradient passes in the whole outermost codes, inside the range too: codes {codes} absorb weights',)
    if rule.rule == 'boundary_half':
        return (
            'in the outermost codes half of the gradient passes: a clamp comes after rounding, and halves it there',
        )
    if rule.rule == 'other' or ' below, ' in rule.rule:
        passes = ': from {:.3g} to {:.3g} passes'.format(*rule.passes) if 'other' in rule.rule and rule.passes else ''
        return (f'outside the values its slope is none that M is known for ({rule.rule}{passes})',)
    return ()


def _not_midway(found: Levels) -> tuple[str, ...]:
    return () if found.midway else ('its thresholds are not midway between values: offsets are in units of its cells',)


def written(match: Match) -> str:
    """A match as a call, its numbers as exact as samples make them."""
    given = ', '.join(f'{name}={value:.6g}' for name, value in (*match.parameters, *match.context))
    return f'{match.name}({given})' if given else match.name
