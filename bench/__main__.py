"""``python -m bench``: measure, and write the results."""

from __future__ import annotations

import argparse
import shlex
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench import machine, paired_runs, report, results
from bench.services import Options

FOLDER = Path(__file__).parent
REPORT = "report"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    options = parser().parse_args(arguments)
    folder = _folder(options)
    names = parts(options)
    amount = Options(options.runs, options.messages, options.quick, options.label)
    for name in names:
        if name == REPORT:
            continue
        paired_runs.say(f"== {name}")
        facts = machine.facts(_command(options, name))
        results.add(folder, name, report.PARTS[name].measure(amount), facts)
    report.write(folder)
    print(folder / report.FILE)


def parts(options: argparse.Namespace) -> list[str]:
    """The parts asked for; all of them when none is named."""
    return options.parts or list(report.PARTS)


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    made = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure how fast the job is, compared with what else could do the work.",
        epilog="A part that is run alone replaces its own results only.",
    )
    made.add_argument(
        "parts",
        nargs="*",
        metavar="PART",
        type=_part,  # not choices, which refuse an empty list
        help=f"{', '.join(report.PARTS)}, or {REPORT} to write RESULTS.md anew without measuring; "
        "default: all parts",
    )
    made.add_argument(
        "--runs", type=_positive, help="turns of each comparison (default: 5, or 2 if quick)"
    )
    made.add_argument(
        "--messages", type=_positive, help="messages, rows or values instead of each part's own"
    )
    made.add_argument(
        "--quick", action="store_true", help="tiny sizes, to try it; the numbers mean nothing"
    )
    made.add_argument("--label", default="now", help="column of the profile (default: %(default)s)")
    made.add_argument(
        "--out",
        type=Path,
        help="folder of the results (default: bench/; if quick, a temporary one)",
    )
    return made


def _part(name: str) -> str:
    if name not in {*report.PARTS, REPORT}:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(report.PARTS)}, {REPORT}")
    return name


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def _folder(options: argparse.Namespace) -> Path:
    options.runs = options.runs or (2 if options.quick else 5)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        return Path(options.out)
    # Tiny runs must not take the place of results that somebody waited for.
    return Path(tempfile.mkdtemp(prefix="bench-")) if options.quick else FOLDER


def _command(options: argparse.Namespace, name: str) -> str:
    """The command that repeats this part."""
    words = ["python", "-m", "bench", name, "--runs", str(options.runs)]
    if options.messages:
        words += ["--messages", str(options.messages)]
    if options.quick:
        words.append("--quick")
    if name == "profile":
        words += ["--label", options.label]
    return shlex.join(words)


if __name__ == "__main__":
    main()
