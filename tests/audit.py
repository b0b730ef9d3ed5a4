"""`make audit`: whether a package that is pinned here has a known vulnerability.

pip-audit asks the OSV database for every line of the requirements. A known vulnerability ends with
exit status 1. Where the database can't be reached, nothing is known: the exit status is 0, so that
CI goes on, and what is printed begins with "not audited".
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

from energy_engine.environment import ROOT

# What is known and does not concern the engine: the identifier, and why it does not.
IGNORED: Final[dict[str, str]] = {}

# What pip-audit ends with where the database does not answer, or with an error.
_unreachable = re.compile(r"requests\.exceptions\.\w+|ServiceError|vulnerability feed")


def main(requirements: Path, *options: str) -> int:
    """Print what is known of the packages in a file of requirements; return the exit status."""
    ignored = [word for identifier in IGNORED for word in ("--ignore-vuln", identifier)]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip_audit", "--requirement", requirements),
            *("--no-deps", "--disable-pip"),  # all are pinned: there is nothing to resolve
            *("--vulnerability-service=osv", "--format=json", "--progress-spinner=off"),
            *ignored,
            *options,
        ],
        capture_output=True,
        text=True,
    )
    if not done.stdout:
        return _not_audited(done.stderr)
    packages = json.loads(done.stdout)["dependencies"]
    found = [line for package in packages for line in _known_of(package)]
    sys.stdout.write("".join(f"{line}\n" for line in found))
    sys.stdout.write(f"audited: {len(packages)} packages, {len(found)} known vulnerabilities\n")
    return 1 if found or done.returncode else 0


def _not_audited(errors: str) -> int:
    if not _unreachable.search(errors):
        sys.stdout.write(errors)
        return 1
    reason = errors.strip().splitlines()[-1]
    sys.stdout.write(f"not audited: cannot reach the advisory database ({reason})\n")
    return 0


def _known_of(package: dict) -> list[str]:
    if reason := package.get("skip_reason"):
        return [f"{package['name']}: not audited: {reason}"]
    return [
        f"{package['name']} {package['version']}: {known['id']}, fixed in "
        f"{', '.join(known['fix_versions']) or 'no version yet'}: {known['description'][:200]}"
        for known in package["vulns"]
    ]


if __name__ == "__main__":
    sys.exit(main(ROOT / "requirements-dev.txt"))
