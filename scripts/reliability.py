"""Puts runs through everything that can happen to them, and writes down what came of it.

  python -m scripts.reliability [--only NAME ...] [--out FILE]

Kills, signals, damaged disks, other hardware, nonsense on the command line, a long run, the same run twice. Takes about
half an hour on two cores; the exit code is 1 where a promise was not kept. With --only the page holds only these.
"""

import os
import pathlib
import sys
import tempfile

from experiments import environment
from experiments.arguments import Parser
from experiments.errors import UserError, tell
from experiments.files import write_text
from scripts.trials import damage, hardware, kills, nonsense, same, signals, soak, supply
from scripts.trials.trial import ROOT, Finding, Trial

TRIALS = tuple(module.TRIAL for module in (kills, signals, damage, hardware, same, nonsense, supply, soak))
_BROKEN = 1  # exit code


def page(command: str, found: dict[Trial, list[Finding]]) -> str:
    """The findings as Markdown."""
    versions = ', '.join(f'{name} {version}' for name, version in environment.versions().items())
    held = sum(finding.held is True for findings in found.values() for finding in findings)
    count = sum(map(len, found.values()))
    lines = [
        *('# What a run survives', ''),
        f'{held} of {count} trials held. Written by `{command}`; {versions}; {os.cpu_count()} cores.',
    ]
    for trial, findings in found.items():
        lines += ['', f'## {trial.name}', '', trial.promise, '', '| trial | outcome | seen |', '|---|---|---|']
        lines += [f'| {_cell(f.what)} | {f.outcome} | {_cell(f.seen)} |' for f in findings]
    return '\n'.join(lines) + '\n'


def _cell(text: str) -> str:
    return ' '.join(text.split())[:300].replace('|', '\\|').replace('<', '&lt;')


def main(argv: list[str]) -> int:
    """Runs the command line without the program's name; returns the exit code."""
    parser = Parser(description=__doc__)
    names = [trial.name for trial in TRIALS]
    parser.add_argument('--only', nargs='+', metavar='NAME', default=names, help=f'of {", ".join(names)}')
    parser.add_argument('--out', type=pathlib.Path, default=ROOT / 'docs' / 'reliability.md', help='the page')
    try:
        arguments = parser.parse_args(argv)
        if set(arguments.only) - set(names):
            raise UserError(
                f'--only: there is no {min(set(arguments.only) - set(names))!r}; there are {", ".join(names)}'
            )
    except UserError as error:
        return tell(error)
    found = {trial: [] for trial in TRIALS if trial.name in arguments.only}
    with tempfile.TemporaryDirectory() as folder:
        # Runs share compiled programs, as a user's do who sets this.
        os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', f'{folder}/compiled')
        for trial, findings in found.items():
            for finding in trial.run(pathlib.Path(folder)):
                print(f'{trial.name}: {finding}', flush=True)
                findings.append(Finding(finding.what, finding.held, finding.seen.replace(folder, 'DIR')))
    write_text(arguments.out, page(' '.join(['python -m scripts.reliability', *argv]), found))
    print(f'Page: {arguments.out}')
    return _BROKEN if any(finding.held is False for findings in found.values() for finding in findings) else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
