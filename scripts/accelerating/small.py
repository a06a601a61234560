"""What a small model gains where many of its steps, or many seeds, go out in one dispatch."""

from collections.abc import Callable

from scripts.measuring.programs import Training, scanned, training, vmapped
from scripts.measuring.session import Session, timed
from scripts.measuring.workloads import CONVNET, Workload


def small(session: Session) -> None:
    """Pairs of the MNIST ConvNet with all tracking: steps by steps a dispatch, then by seeds in a program."""
    workload = session.sized(CONVNET)
    _measured(session, workload, 'small-steps', 'steps a dispatch', (1, 10, 100), scanned, limit=2)
    _measured(session, workload, 'small-seeds', 'seeds in a program', (1, 4, 16), vmapped, limit=5)


def _measured(
    session: Session,
    workload: Workload,
    name: str,
    by: str,
    counts: tuple[int, ...],
    build: Callable[[Workload, int], Training],
    limit: float,
) -> None:
    """A figure a count, steps of a pair a second, and the gain of the largest over one, in turn."""
    counts, made = (1, 4) if session.tiny else counts, {}
    most = counts[-1]
    for count in counts:
        if not session.fits(f'{name}-{count}', 1 if session.tiny else 10):
            return
        program, dispatches = training(workload) if count == 1 else build(workload, count), max(1, most // count)
        times = timed(lambda: program(dispatches), session.rounds)  # noqa: B023
        samples = [count * dispatches / spent for spent in times]
        session.add(f'{name}-{count}', f'steps a second, {count} {by}, {workload.what}, pairs', samples, 'steps/s')
        made[count] = program
    what = f'{most} {by} against one, gain in steps a second, {workload.what}, pairs'
    session.compare(f'{name}-gain', what, lambda: made[1](most), lambda: made[most](1), limit=limit, bound='at least')
