"""Run campaigns of faults; each one ends with a JSON line: ``python -m tests.chaos [NAME...]``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.chaos.campaigns import CAMPAIGNS, Size
from tests.chaos.testbed import json_line


def main() -> None:
    """Run the command line; exits with 1 unless every verdict is a pass."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"{', '.join(CAMPAIGNS)}; default: all"
    )
    parser.add_argument(
        "--seed", type=int, default=1, help="decides the messages and the faults (default: 1)"
    )
    parser.add_argument(
        "--share", type=float, default=1.0, help="share of the full size to run (default: 1.0)"
    )
    parser.add_argument(
        "--append", type=Path, metavar="FILE", help="also append the JSON lines to this file"
    )
    options = parser.parse_args()
    if unknown := set(options.names) - set(CAMPAIGNS):
        parser.error(f"no such campaign: {', '.join(sorted(unknown))}")
    passed = True
    for name in options.names or CAMPAIGNS:
        result = {**CAMPAIGNS[name](options.seed, Size(options.share)), "share": options.share}
        passed = passed and result["verdict"] == "pass"
        sys.stdout.write(json_line(result) + "\n")
        sys.stdout.flush()
        if options.append:
            with options.append.open("a", encoding="utf-8") as file:
                file.write(json_line(result) + "\n")
    sys.exit(not passed)


if __name__ == "__main__":
    main()
