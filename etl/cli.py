"""The command line: its commands, its help, its exit codes.

Neither this module nor the commands import a heavy library at the top: ``--help`` answers before
pandas would have loaded.
"""

from __future__ import annotations

import io
import resource
import signal
import sys

import click

from etl.commands.audit import audit
from etl.commands.config import check_config, config
from etl.commands.demo import demo
from etl.commands.doctor import doctor
from etl.commands.draft import draft
from etl.commands.forget import forget
from etl.commands.groups import Group
from etl.commands.init import init
from etl.commands.keys import keys
from etl.commands.lookup import rows, token
from etl.commands.peek import peek
from etl.commands.quarantine import quarantine
from etl.commands.rekey import rekey
from etl.commands.report import report
from etl.commands.rollback import rollback
from etl.commands.run import history, run
from etl.commands.send import send
from etl.commands.unmask import unmask
from etl.errors import EtlError, OutputLost
from etl.terminal import lines
from etl.terminal.working_folder import check_folder
from etl.version import __version__

EXIT_CODES = """\b
Exit codes:
  0  done
  1  stopped; what was neither loaded nor quarantined is still in the queue
  2  wrong usage or configuration; nothing was received
  3  too many messages failed a check (quarantine.max_fraction)
"""


def start() -> None:
    """Run the command line; turn errors into one line and an exit code."""
    from etl import logs
    from etl.workers.interpreter import prepare_imports

    prepare_imports()
    logs.open_standard_streams()
    logs.hide_values_in_tracebacks()
    # A core dump would hold plain values and keys.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        check_folder()
        code = main(standalone_mode=False)
        sys.stdout.flush()
    except OutputLost as error:
        logs.discard_output()
        code = error.exit_code
        if error.is_unread:
            # As a shell reports a program that writes to `head` and does not handle the signal.
            code = 128 + signal.SIGPIPE
        else:
            lines.say(f"error: {error}")
    except EtlError as error:
        # An error may show lines to write in the configuration; a name in it is quoted by repr.
        lines.block(f"error: {error}\n", err=True)
        code = error.exit_code
    except click.ClickException as error:
        message = io.StringIO()
        error.show(message)
        if any(argument[:1] in tuple("\u2013\u2014\u2212") for argument in sys.argv[1:]):
            message.write("An argument begins with a dash: type two hyphens instead.\n")
        lines.block(message.getvalue(), err=True)
        code = error.exit_code
    except click.Abort:
        lines.say("Aborted!")
        code = 1
    except (MemoryError, OSError, RuntimeError) as error:
        words = logs.lack(error)
        if words is None:
            raise
        lines.say(f"error: {words}")
        code = 1
    sys.exit(code)


@click.group(
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=f"""{EXIT_CODES}
\b
Examples:
  (umask 077 && set -C && etl keys new > keyring.json)
  export ETL_KEYRING_FILE=keyring.json
  export DATABASE_URL=postgresql://etl@localhost/etl
  export ETL_QUEUE__URL=https://sqs.eu-west-1.amazonaws.com/123456789012/q
  etl run --dry-run
  etl run
""",
)
@click.version_option(__version__, prog_name="etl")
def main() -> None:
    """Move JSON events from Amazon SQS to Postgres, with the personal columns masked.

    Settings come from config.yaml; ETL_SECTION__KEY in the environment overrides them. Secrets come
    from the environment only: DATABASE_URL, one of ETL_KEYRING, ETL_KEYRING_FILE and
    ETL_KEYRING_SECRET, and the AWS variables.
    """


main.add_commands("Run the job", run, history, peek, send)
main.add_commands("Look at the loaded rows", report, rows, token)
main.add_commands("Recover, correct and erase", quarantine, unmask, audit, forget, rollback)
main.add_commands("Set up", draft, config, check_config, init, doctor, keys, rekey, demo)

# Its first name was one slip away from `run`, which drains the queue.
main.old_names["runs"] = "history"
