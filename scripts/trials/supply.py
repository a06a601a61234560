"""What is installed: pinned by hashes, consistent, and looked up among the known vulnerabilities."""

import json
import pathlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator

from scripts.trials.trial import ROOT, Finding, Trial

LOCK = ROOT / 'requirements.lock'
_AUDIT = ('--disable-pip', '--require-hashes', '--progress-spinner=off', '--format=json')


def supply(folder: pathlib.Path) -> Iterator[Finding]:
    """The lock file, `pip check`, and `pip-audit` where it is installed and reaches its data."""
    lock = LOCK.read_text()
    packages, hashes = re.findall(r'(?m)^[\w.-]+==', lock), re.findall(r'--hash=sha256:[0-9a-f]{64}', lock)
    yield Finding('requirements.lock', len(hashes) >= len(packages) > 0, f'{len(packages)} pins, {len(hashes)} hashes')
    checked = subprocess.run([sys.executable, '-m', 'pip', 'check'], capture_output=True, text=True)
    yield Finding('pip check', checked.returncode == 0, checked.stdout.strip())
    yield _audit()


def _audit() -> Finding:
    if not shutil.which('pip-audit'):
        return Finding('pip-audit', None, 'not installed; pip install pip-audit, anywhere on PATH')
    done = subprocess.run(['pip-audit', '-r', str(LOCK), *_AUDIT], capture_output=True, text=True)
    try:
        found = json.loads(done.stdout)['dependencies']
    except (ValueError, LookupError):
        return Finding('pip-audit', None, f'gave no answer: {done.stderr[-200:]}')
    audited = [package for package in found if 'skip_reason' not in package]
    if not audited:
        return Finding('pip-audit', None, f'{len(found)} packages, none of them audited: its data could not be reached')
    bad = [f'{package["name"]} {flaw["id"]}' for package in audited for flaw in package['vulns']]
    return Finding(
        'pip-audit', not bad, f'{len(audited)} of {len(found)} packages audited: {", ".join(bad) or "nothing"}'
    )


TRIAL = Trial('supply', 'What is installed is pinned by hashes, consistent, and without known vulnerabilities.', supply)
