"""Play the campaigns, each ending in a JSON line: ``python -m tests.chaos [NAME...]``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.chaos.campaigns import CAMPAIGNS, Size
from tests.chaos.testbed import line


def main() -> None:
    """Run the command line; exits with 1 unless every verdict is a pass."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(CAMPAIGNS))
    parser.add_argument("--seed", type=int, default=1, help="of the messages and the faults")
    parser.add_argument("--share", type=float, default=1.0, help="of the full size")
    parser.add_argument("--append", type=Path, metavar="FILE", help="add the lines to this file")
    options = parser.parse_args()
    if unknown := set(options.names) - set(CAMPAIGNS):
        parser.error(f"no such campaign: {', '.join(sorted(unknown))}")
    passed = True
    for name in options.names or CAMPAIGNS:
        result = {**CAMPAIGNS[name](options.seed, Size(options.share)), "share": options.share}
        passed = passed and result["verdict"] == "pass"
        sys.stdout.write(line(result) + "\n")
        sys.stdout.flush()
        if options.append:
            with options.append.open("a", encoding="utf-8") as file:
                file.write(line(result) + "\n")
    sys.exit(not passed)


if __name__ == "__main__":
    main()
