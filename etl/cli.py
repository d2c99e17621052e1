"""The command line: its help, its commands, its exit codes.

Nothing heavy is imported at the top, here or in the commands: ``--help`` answers before pandas
would have loaded.
"""

from __future__ import annotations

import sys

import click

from etl.commands.audit import audit
from etl.commands.config import config
from etl.commands.demo import demo
from etl.commands.forget import forget
from etl.commands.init import init
from etl.commands.keys import keys
from etl.commands.lookup import rows, token
from etl.commands.quarantine import quarantine
from etl.commands.rekey import rekey
from etl.commands.report import report
from etl.commands.run import run, runs
from etl.commands.send import send
from etl.commands.unmask import unmask
from etl.errors import EtlError
from etl.version import __version__

EXIT_CODES = """\b
Exit codes:
  0  done
  1  stopped; everything not loaded is still in the queue
  2  wrong usage or configuration; nothing was received
  3  too much was quarantined (quarantine.max_fraction)
"""


def start() -> None:
    """Run the command line; turn errors into one line and an exit code."""
    from etl import logs

    logs.hide_values_in_tracebacks()
    try:
        main(standalone_mode=True)
    except EtlError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=f"""{EXIT_CODES}
\b
Examples:
  python -m etl keys new > keyring.json && chmod 600 keyring.json
  export ETL_KEYRING_FILE=keyring.json DATABASE_URL=postgresql://etl@localhost/etl
  export ETL_QUEUE__URL=https://sqs.eu-west-1.amazonaws.com/123456789012/logins
  python -m etl run --dry-run
  python -m etl run
""",
)
@click.version_option(__version__, prog_name="etl")
def main() -> None:
    """Move JSON events from Amazon SQS to Postgres, with the personal columns masked.

    Settings stand in config.yaml; ETL_SECTION__KEY in the environment overrides them. Secrets come
    from the environment only: DATABASE_URL, one of ETL_KEYRING, ETL_KEYRING_FILE and
    ETL_KEYRING_SECRET, and the AWS variables.
    """


for command in (
    run, init, config, send, keys, rekey, token, rows, unmask, audit, forget, quarantine, runs,
    report, demo,
):  # fmt: skip
    main.add_command(command)
