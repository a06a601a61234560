"""Puts runs through everything that can happen to them, and writes down what came of it.

  python -m scripts.reliability [--only NAME ...] [--out FOLDER]

Kills, signals, damaged disks, other hardware, nonsense on the command line, a long run, the same run twice. Takes about
half an hour on two cores; the exit code is 1 where a promise was not kept. Writes FOLDER/reliability.md, and
reliability.json, from which --only takes what it does not try again.
"""

import dataclasses
import os
import pathlib
import platform
import sys
import tempfile
from collections.abc import Iterator

from experiments.errors import UserError, tell
from experiments.setup.arguments import Parser
from experiments.workdir import environment
from experiments.workdir.files import read_json, write_json, write_text
from scripts.trials import damage, hardware, kills, nonsense, same, signals, soak, supply
from scripts.trials.trial import ROOT, Finding, Trial

TRIALS = tuple(module.TRIAL for module in (kills, signals, damage, hardware, same, nonsense, supply, soak))
_BROKEN = 1  # exit code
_PAGE, _FIGURES = 'reliability.md', 'reliability.json'


def page(results: dict[str, dict]) -> str:
    """The content of reliability.json as Markdown."""
    findings = [finding for result in results.values() for finding in result['findings']]
    held = sum(finding['held'] is True for finding in findings)
    lines = ['# What a run survives', '', f'{held} of {len(findings)} trials held.']
    for trial in TRIALS:
        if trial.name in results:
            result = results[trial.name]
            lines += ['', f'## {trial.name}', '', trial.promise, '', f'Tried with {result["with"]}.', '']
            lines += ['| trial | outcome | seen |', '|---|---|---|']
            found = [Finding(**finding) for finding in result['findings']]
            lines += [f'| {_cell(f.what)} | {f.outcome} | {_cell(f.seen)} |' for f in found]
    command = '`python -m scripts.reliability`'
    return '\n'.join([*lines, '', f'Written by {command}, from reliability.json beside it.']) + '\n'


def _cell(text: str) -> str:
    return ' '.join(text.split())[:300].replace('|', '\\|').replace('<', '&lt;')


def main(argv: list[str]) -> int:
    """Runs the command line without the program's name; returns the exit code."""
    parser = Parser(description=__doc__)
    names = [trial.name for trial in TRIALS]
    parser.add_argument('--only', nargs='+', metavar='NAME', default=names, help=f'of {", ".join(names)}')
    parser.add_argument('--out', type=pathlib.Path, default=ROOT / 'docs', help='folder of the page')
    try:
        arguments = parser.parse_args(argv)
        if set(arguments.only) - set(names):
            raise UserError(
                f'--only: there is no {min(set(arguments.only) - set(names))!r}; there are {", ".join(names)}'
            )
    except UserError as error:
        return tell(error)
    broken = False
    with tempfile.TemporaryDirectory() as folder:
        # Runs share compiled programs, as a user's do who sets this.
        os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', f'{folder}/compiled')
        for trial in TRIALS:
            if trial.name in arguments.only:
                findings = list(_told(trial, pathlib.Path(folder)))
                broken |= any(finding.held is False for finding in findings)
                _write(arguments.out, trial, findings)
    print(f'Page: {arguments.out / _PAGE}')
    return _BROKEN if broken else 0


def _told(trial: Trial, folder: pathlib.Path) -> Iterator[Finding]:
    for finding in trial.run(folder):
        print(f'{trial.name}: {finding}', flush=True)
        what, seen = (text.replace(str(folder), 'DIR') for text in (finding.what, finding.seen))
        yield dataclasses.replace(finding, what=what, seen=seen)


def _write(out: pathlib.Path, trial: Trial, findings: list[Finding]) -> None:
    """Puts the findings in place of what is known of the trial."""
    path = out / _FIGURES
    results = read_json(path) if path.exists() else {}
    versions = ', '.join(f'{name} {version}' for name, version in environment.versions().items())
    about = f'{versions}, Python {platform.python_version()}, {os.cpu_count()} cores'
    results[trial.name] = {'with': about, 'findings': [dataclasses.asdict(finding) for finding in findings]}
    write_json(path, results)
    write_text(out / _PAGE, page(results))


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
