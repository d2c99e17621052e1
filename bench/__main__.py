"""``python -m bench``: measure, and write the results and the report."""

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
    """Parse the command line, measure the parts and write the report."""
    options = parser().parse_args(arguments)
    folder = _folder(options)
    size = Options(options.runs, options.messages, options.quick, options.label)
    for name in parts(options):
        if name == REPORT:
            continue
        paired_runs.say(f"== {name}")
        facts = machine.facts(_command(options, name))
        results.add(folder, name, report.PARTS[name].measure(size), facts)
    report.write(folder)
    print(folder / report.FILE)


def parts(options: argparse.Namespace) -> list[str]:
    """Return the names of the parts to measure: those that were given, or all of them."""
    return options.parts or list(report.PARTS)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    command_line = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure how fast the job is, and compare it with other ways to do the work.",
        epilog="A part replaces only its own results.",
    )
    _add_parts(command_line)
    _add_sizes(command_line)
    _add_outputs(command_line)
    return command_line


def _add_parts(command_line: argparse.ArgumentParser) -> None:
    command_line.add_argument(
        "parts",
        nargs="*",
        metavar="PART",
        type=_part,  # not choices, which refuse an empty list
        help=f"measure this part: {', '.join(report.PARTS)}; or {REPORT}: only write RESULTS.md "
        "again, without measuring (default: all parts)",
    )


def _add_sizes(command_line: argparse.ArgumentParser) -> None:
    command_line.add_argument(
        "--runs",
        type=_positive,
        metavar="N",
        help="measure each program N times, taking turns (default: 5, or 2 with --quick)",
    )
    command_line.add_argument(
        "--messages",
        type=_positive,
        metavar="N",
        help="measure with N messages, rows or values (default: depends on the part)",
    )
    command_line.add_argument(
        "--quick",
        action="store_true",
        help="measure with tiny sizes, to try the program out; the numbers mean nothing",
    )


def _add_outputs(command_line: argparse.ArgumentParser) -> None:
    command_line.add_argument(
        "--label",
        default="now",
        help="head the columns of the profile with this word (default: %(default)s)",
    )
    command_line.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="write the results to this folder (default: bench, or with --quick a temporary one)",
    )


def _part(name: str) -> str:
    if name not in {*report.PARTS, REPORT}:
        known = ", ".join([*report.PARTS, REPORT])
        raise argparse.ArgumentTypeError(f"{name!r} is not a part: choose from {known}")
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
    # Results of tiny runs must not replace results that took an hour to measure.
    return Path(tempfile.mkdtemp(prefix="bench-")) if options.quick else FOLDER


def _command(options: argparse.Namespace, name: str) -> str:
    """Return the command that measures this part again."""
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
