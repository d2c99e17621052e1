"""The bugs that ``make bites`` plants: each replaces exact text, and names the tests that catch it.

The text must be in its file exactly once; ``tests/chaos/test_mutants.py`` fails when it is not.
Then the code has changed, and the bug must be rewritten for the new code. A name completes a
sentence that begins with "the program".
"""

from __future__ import annotations

from dataclasses import dataclass

CRASHES = "tests/acceptance/test_crashes.py"
FAULTS = "tests/chaos/test_database_faults.py"
KEYS = "tests/acceptance/test_ledger_keys.py"
LOADING = "tests/integration/test_loading.py"
PREFLIGHT = "tests/integration/test_preflight.py"
REFUSED = "tests/integration/test_refused_rows.py"
VALUES = "tests/integration/test_stored_values.py"
RECEIVING = "tests/integration/test_receiving.py"
CANARY = "tests/acceptance/test_canary.py"


@dataclass(frozen=True)
class Bug:
    """One bug: in *file*, *new* replaces *old*."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


BUGS = (
    Bug(
        "acknowledges messages before the commit",
        "etl/pipeline.py",
        "        totals = _load_patiently(drain, batch)\n",
        "        drain.consumer.acknowledge(messages)\n"
        "        drain.consumer.wait_for_acknowledgements()\n"
        "        totals = _load_patiently(drain, batch)\n",
        (f"{CRASHES}::test_a_run_killed_before_its_commit_loses_nothing",),
    ),
    Bug(
        "does not check the ledger",
        "etl/ledger.py",
        "    if len(fresh) < len(message_ids):\n",
        "    fresh = set(message_ids)\n    if len(fresh) < len(message_ids):\n",
        (f"{CRASHES}::test_a_run_killed_before_its_acknowledgements_loads_nothing_twice",),
    ),
    Bug(
        "claims ids in unsorted order",
        "etl/ledger.py",
        "ordered = sorted(ids)",
        "ordered = list(ids)",
        (f"{LOADING}::test_two_claims_in_opposite_orders_do_not_lock_each_other_out",),
    ),
    Bug(
        "inserts rows again after a COMMIT of unknown outcome",
        "etl/ledger.py",
        "            raise CommittedBeforeError\n",
        "            return set(message_ids)\n",
        (f"{CRASHES}::test_a_lost_reply_to_commit_is_looked_up_in_the_ledger",),
    ),
    Bug(
        "takes its own COMMIT of unknown outcome for another run's",
        "etl/ledger.py",
        "            raise CommittedBeforeError\n",
        "            return fresh\n",
        (f"{CRASHES}::test_a_lost_reply_to_commit_is_looked_up_in_the_ledger",),
    ),
    Bug(
        "ignores the failed entries of a batch call",
        "etl/sqs/queue.py",
        'answer.get("Failed", [])\n            ]\n        return failed',
        "()\n            ]\n        return failed",
        (f"{RECEIVING}::test_a_refused_entry_is_reported_though_the_call_succeeds",),
    ),
    Bug(
        "keeps the oldest receipt handle of a message",
        "etl/sqs/heartbeat.py",
        "            for message in messages:\n                self._put(message.handle",
        "            for message in messages:\n"
        "                if message.message_id in self._held:\n"
        "                    continue\n"
        "                self._put(message.handle",
        (f"{RECEIVING}::test_a_redelivery_while_held_is_one_message_with_two_deliveries",),
    ),
    Bug(
        "never extends the visibility timeout",
        "etl/sqs/heartbeat.py",
        "            thread.start()\n",
        "            pass\n",
        (f"{CRASHES}::test_a_load_slower_than_the_visibility_timeout_keeps_its_messages",),
    ),
    Bug(
        "times its heartbeat with the wall clock",
        "etl/sqs/heartbeat.py",
        "import time\n",
        'time = __import__("types").SimpleNamespace(monotonic=__import__("time").time)\n',
        ("tests/chaos/test_clock_jumps.py::test_a_run_does_not_notice_that_the_clock_jumps",),
    ),
    Bug(
        "does not release the messages that it could not load",
        "etl/sqs/consumer.py",
        "            release(self._queue, self._heartbeat, messages, self._pool)\n",
        "",
        (f"{CRASHES}::test_a_database_that_stays_away_ends_the_run_and_keeps_the_messages",),
    ),
    Bug(
        "counts a message that was delivered twice only once",
        "etl/pipeline.py",
        "            already_handled=batch.deliveries - loaded - quarantined,\n",
        "            already_handled=len(batch.messages) - loaded - quarantined,\n",
        (f"{CRASHES}::test_a_message_delivered_twice_within_a_batch_is_loaded_once",),
    ),
    Bug(
        "counts rows loaded by another run as its own",
        "etl/pipeline.py",
        "        loaded = len(stored.loaded)\n",
        "        loaded = len(batch.masked)\n",
        (f"{CRASHES}::test_two_runs_at_once_load_each_message_once",),
    ),
    Bug(
        "overflows the stack on deeply nested JSON",
        "etl/extract.py",
        '    if text.count("[") + text.count("{") > MAX_NESTING and _depth(text) > MAX_NESTING:\n',
        "    if False:\n",
        ("tests/unit/test_extract.py",),
    ),
    Bug(
        "accepts true as the integer 1",
        "etl/schema.py",
        "    return [kind in allowed for kind in map(type, values)]\n",
        "    return [isinstance(value, tuple(allowed)) for value in values]\n",
        ("tests/unit/test_validate.py",),
    ),
    Bug(
        "lets a lone surrogate through to the database",
        "etl/schema.py",
        "    if _encodes(_all_text(values)):\n",
        "    if _all_text(values) is not None:\n",
        ("tests/unit/test_validate.py",),
    ),
    Bug(
        "does not bind tokens to their column",
        "etl/mask.py",
        "\n    bound_to = [associated_data(key_id, context)]\n",
        "\n    bound_to = []\n",
        ("tests/unit/test_mask.py::test_a_token_is_what_another_library_makes",),
    ),
    Bug(
        "decrypts forged tokens",
        "etl/crypto/siv.py",
        "    genuine = differences == 0\n",
        "    genuine = differences >= 0\n",
        ("tests/unit/test_siv.py::test_every_flipped_bit_is_told",),
    ),
    Bug(
        "seals every body with the same nonce",
        "etl/crypto/seal.py",
        "os.urandom(_NONCE_BYTES * len(bodies))",
        "bytes(_NONCE_BYTES * len(bodies))",
        ("tests/unit/test_mask.py::test_two_seals_of_one_body_differ",),
    ),
    Bug(
        "stores quarantined bodies unencrypted",
        "etl/quarantine.py",
        '                "body": body,\n',
        '                "body": message.body.encode("utf-8", "surrogatepass"),\n',
        (f"{CANARY}::test_no_canary_is_found_anywhere",),
    ),
    Bug(
        "logs pandera's error message",
        "etl/validate.py",
        "        cases = errors.failure_cases\n",
        "        cases = errors.failure_cases\n"
        '        __import__("logging").getLogger("etl").warning("%s", errors)\n',
        (f"{CANARY}::test_no_canary_is_found_anywhere",),
    ),
    Bug(
        "keeps the driver's error as the cause of its own",
        "etl/postgres/engine.py",
        "        raise translated from None\n",
        "        raise translated from error\n",
        (f"{LOADING}::test_no_database_error_quotes_a_value",),
    ),
    Bug(
        "ignores the cause of a wrapped error",
        "etl/postgres/sqlstate.py",
        'error = getattr(error, "orig", None) or error.__cause__ or error.__context__',
        'error = getattr(error, "orig", None)',
        (f"{LOADING}::test_an_error_that_pandas_has_wrapped_is_told_by_its_sqlstate",),
    ),
    Bug(
        "does not roll back to its savepoint",
        "etl/postgres/bisection.py",
        "        savepoint.rollback()\n",
        "        pass\n",
        (f"{LOADING}::test_rows_that_only_the_database_refuses_are_found",),
    ),
    Bug(
        "blames the rows for a full disk",
        "etl/postgres/sqlstate.py",
        'ROW_CLASSES = ("22", "23", "44", "54")',
        'ROW_CLASSES = ("22", "23", "44", "53", "54")',
        (f"{LOADING}::test_a_database_error_is_told_by_its_sqlstate",),
    ),
    Bug(
        "gives up after a deadlock",
        "etl/postgres/sqlstate.py",
        'OUTAGE_CLASSES = ("08", "53", "57", "40", "58")',
        'OUTAGE_CLASSES = ("08", "53", "57", "58")',
        (f"{FAULTS}::test_a_deadlock_is_tried_again",),
    ),
    Bug(
        "gives up during a read-only failover",
        "etl/postgres/sqlstate.py",
        'OUTAGE_CODES = ("25006", ',
        "OUTAGE_CODES = (",
        (f"{FAULTS}::test_a_read_only_failover_is_waited_out",),
    ),
    Bug(
        "retries on a connection from before the outage",
        "etl/postgres/engine.py",
        "            engine.dispose()\n",
        "            pass\n",
        (f"{FAULTS}::test_a_read_only_failover_is_waited_out",),
    ),
    Bug(
        "keeps a business id claimed for a row that the table refused",
        "etl/pipeline.py",
        "        ledger.free(connection, [key for keys in freed for key in keys])\n",
        "",
        (f"{KEYS}::test_a_row_that_the_table_refuses_leaves_its_business_id_to_the_next",),
    ),
    Bug(
        "fingerprints events with the primary key only",
        "etl/fingerprints.py",
        "for key_id in keyring.key_ids]",
        "for key_id in [keyring.primary]]",
        (f"{KEYS}::test_a_rotation_of_the_keyring_forgets_nothing",),
    ),
    Bug(
        "deletes ids from the ledger as soon as the run ends",
        "etl/sql/queries.sql",
        "where handled_at < now() - make_interval(days => :retention_days)",
        "where :retention_days > 0",
        (f"{LOADING}::test_old_ids_are_removed",),
    ),
    Bug(
        "counts a row as loaded that a trigger has dropped",
        "etl/postgres/bisection.py",
        "        if insert(start, stop) != stop - start:\n",
        "        if insert(start, stop) > stop - start:\n",
        (f"{REFUSED}::test_one_row_alone_is_quarantined_for_its_own_value",),
    ),
    Bug(
        "quarantines every row of a table that takes none",
        "etl/postgres/verdict.py",
        "    if not trial.refused or trial.has_taken_rows:\n",
        "    if trial.refused:\n",
        (f"{REFUSED}::test_a_column_that_no_row_has_a_value_for_is_the_tables_fault",),
    ),
    Bug(
        "lets one refused row stop every run",
        "etl/pipeline.py",
        "        return found.message_ids\n",
        "        raise found.error from None\n",
        (f"{REFUSED}::test_other_messages_of_the_batch_do_not_wait",),
    ),
    Bug(
        "rounds a number that a double cannot hold",
        "etl/extract.py",
        "    return value if _is_exact(text, value) else Inexact(value)\n",
        "    return value\n",
        (f"{VALUES}::test_a_value_that_the_type_cannot_hold_exactly_is_a_reject",),
    ),
    Bug(
        "receives messages for a table that cannot take them",
        "etl/preflight.py",
        "            check_target(engine, settings.table)\n",
        "            pass\n",
        (f"{PREFLIGHT}::test_a_run_and_init_refuse_before_anything_is_received",),
    ),
)
