"""One part, one process: so that a crash, or memory that is not given back, costs no more than the part."""

import importlib
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
import traceback

from scripts.accelerating.parts import PARTS, Part
from scripts.measuring.figures import Record
from scripts.measuring.session import Session

FILE = 'accelerator.json'
DETERMINISTIC = '--xla_gpu_deterministic_ops=true'
_ROOT = pathlib.Path(__file__).parents[2]
_LONGEST_BY = 3  # times what a part is said to take; then it hangs


def measured(part: Part, folder: pathlib.Path, until: float, tiny: bool, data: pathlib.Path | None) -> str:
    """Runs a part in a process of its own until it ends, or must; '' or why it failed.

    What the process prints, if anything, is kept in `folder`/PART.log.
    """
    limit = min(until - time.time(), _LONGEST_BY * (part.tiny_seconds if tiny else part.seconds))
    command = [sys.executable, '-m', 'scripts.accelerator', f'--part={part.name}', f'--out={folder.resolve()}']
    command += [
        f'--until={time.time() + limit}',
        *(['--tiny'] if tiny else []),
        *([f'--data={data.resolve()}'] if data else []),
    ]
    log = folder / f'{part.name}.log'
    with log.open('w', encoding='utf-8') as printed:
        pipes = {'stdin': subprocess.PIPE, 'stdout': printed, 'stderr': subprocess.STDOUT}
        process = subprocess.Popen(command, cwd=_ROOT, env=_environment(part, tiny), **pipes)
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            return f'ended after {limit:.0f} s, its time'
        finally:
            process.kill()
            process.wait()
            process.stdin.close()
    lines = [line for line in log.read_text(encoding='utf-8', errors='replace').splitlines() if line.strip()]
    if not lines:
        log.unlink()
    if not code:
        return ''
    died = f'ended by {signal.Signals(-code).name}' if code < 0 else f'ended with exit code {code}'
    return f'{died}: {lines[-1] if lines else "it printed nothing"}'


def _environment(part: Part, tiny: bool) -> dict[str, str]:
    """This one's, with the part's XLA flags; where compiling is timed, without programs that others have compiled."""
    environment = dict(os.environ)
    if part.deterministic:
        environment['XLA_FLAGS'] = f'{environment.get("XLA_FLAGS", "")} {DETERMINISTIC}'.strip()
    if tiny:
        environment['JAX_DISABLE_MOST_OPTIMIZATIONS'] = 'true'  # compiling is most of what tiny sizes take
    else:
        environment.pop('JAX_COMPILATION_CACHE_DIR', None)
    return environment


def measure(name: str, folder: pathlib.Path, until: float, tiny: bool, data: pathlib.Path | None) -> None:
    """What the process of a part does: every one of its measures, and the reason of each that fails."""
    from scripts.measuring.machine import machine  # jax, which the process that starts this one does without

    threading.Thread(target=_end_with_parent, daemon=True).start()
    (part,) = (part for part in PARTS if part.name == name)
    record, about = Record(folder / FILE), machine()
    on_cpu = about['backend'] == 'cpu'
    record.on(about, judged=not (on_cpu or tiny))
    if on_cpu and not (tiny or part.on_cpu):
        record.leave_out(name, 'jax finds only a CPU here, and --tiny is for those')
        return
    rounds, steps = (2, 1) if tiny else (6, 5)
    for module, function, arguments in part.measures:
        try:
            found = getattr(importlib.import_module(f'scripts.accelerating.{module}'), function)
            found(Session(record, rounds, steps, tiny, until, data), **arguments)
        except Exception as error:  # whatever it is, the rest goes on
            traceback.print_exc()
            message = next(iter(str(error).splitlines()), '')
            record.fail(f'{name}: {function}', f'{type(error).__name__}: {message}')


def _end_with_parent() -> None:
    """Ends this process when the one that started it is gone, even killed, so that nothing writes after it."""
    os.read(0, 1)  # not through sys.stdin, whose lock the interpreter wants when it ends
    os._exit(1)
