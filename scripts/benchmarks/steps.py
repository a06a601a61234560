"""Training steps against other training steps, all on one device; and where the time of a pair's step goes."""

import functools
from collections.abc import Callable

from scripts.measuring import programs
from scripts.measuring.programs import alone, plain, training, untracked
from scripts.measuring.session import Session
from scripts.measuring.tracing import profile
from scripts.measuring.workloads import CONVNET, DIGITS, ESTIMATOR, RESNET, TWINS, Workload

_SEEDS = 16  # pairs in one program

Steps = Callable[[int], object]  # runs so many


def compare(
    name: str,
    workload: Workload,
    what: str,
    measured: Callable[[Workload], Steps],
    baseline: Callable[[Workload], Steps],
    limit: float | None,
    times: int,
    session: Session,
) -> None:
    """Two programs that make the same number of steps; the baseline is a sum of so many equal ones."""
    workload, steps = session.sized(workload), session.steps
    one, other = measured(workload), baseline(workload)
    session.compare(name, f'{what}, {workload.what}', lambda: one(steps), lambda: other(steps * times), limit=limit)


def separately(workload: Workload) -> Steps:
    """Five runs, the estimator and its four twins, as trainings of one run each, one after the other."""
    runs = [alone(workload, estimator=estimator) for estimator in [ESTIMATOR] * 3 + ['ste'] * 2]
    return lambda steps: [run(steps) for run in runs]


def one_seed_after_another(workload: Workload) -> Steps:
    """Pairs of all seeds, so many steps of each."""
    pair = training(workload)
    return lambda steps: pair(steps * _SEEDS)


def dispatch(session: Session) -> None:
    """What `lax.scan` gains: a program whose number of steps is known when it is built."""
    workload, steps = session.sized(CONVNET), session.steps
    one, together = training(workload), programs.scanned(workload, steps)
    what = f'a dispatch a step / all steps of a sample in one dispatch, {workload.what}'
    session.compare('convnet-dispatch', what, lambda: one(steps), lambda: together(1))


def profiled(name: str, workload: Workload, session: Session) -> None:
    """Where the time of a pair's step goes."""
    profile(session, name, session.sized(workload))


_of_all_twins = functools.partial(training, twins=TWINS)
_seeds = functools.partial(programs.vmapped, seeds=_SEEDS)

_OF_BOTH_MODELS = {
    'quantized': ('quantized step / the same model unquantized', alone, plain, 1.10, 1),
    'pair': ('paired step / 2 unquantized steps', training, plain, 1.05, 2),
    'tracking': ('paired step with all tracking / without', training, untracked, 1.05, 1),
    'pmap': ('pmap step / under jit with NamedSharding', training, programs.under_jit, 1.02, 1),
}
_OF_THE_CONVNET = {
    'tracking-alone': ('all tracking by itself / paired step without', programs.tracking, untracked, 0.10, 1),
    'twins': ('four twins in lockstep / five separate runs', _of_all_twins, separately, 0.90, 1),
}
_OF_SMALL_MODELS = {
    'seeds': (f'pairs of {_SEEDS} seeds one after the other / in one program', one_seed_after_another, _seeds, None, 1),
}
_OF_MORE_TWINS = {
    f'twins-{runs}': (
        f'a step of {runs} runs in lockstep / {runs} x a run alone',
        functools.partial(training, twins=TWINS[: runs - 1]),
        alone,
        None,
        runs,
    )
    for runs in range(2, 2 + len(TWINS))
}
BENCHMARKS = {
    **{
        f'{model}-{name}': functools.partial(compare, f'{model}-{name}', workload, *arguments)
        for model, workload, compared in (
            ('convnet', CONVNET, {**_OF_BOTH_MODELS, **_OF_THE_CONVNET, **_OF_SMALL_MODELS}),
            ('digits', DIGITS, _OF_SMALL_MODELS),
            ('resnet', RESNET, _OF_BOTH_MODELS),
            ('growth', CONVNET, _OF_MORE_TWINS),
        )
        for name, arguments in compared.items()
    },
    'convnet-dispatch': dispatch,
    'profile-convnet': functools.partial(profiled, 'profile-convnet', CONVNET),
    'profile-resnet': functools.partial(profiled, 'profile-resnet', RESNET),
}
