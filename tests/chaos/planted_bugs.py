"""The bugs that ``make bites`` plants: each replaces exact text, and names the tests that catch it.

The text must be in its file exactly once; ``tests/chaos/test_mutants.py`` fails when it is not.
Then the code has changed, and the bug must be rewritten for the new code. A name completes a
sentence that begins with "the program".
"""

from __future__ import annotations

from dataclasses import dataclass

CRASHES = "tests/acceptance/test_crashes.py"
FAULTS = "tests/chaos/test_database_faults.py"
JOBS = "tests/integration/test_jobs.py"
KEYS = "tests/acceptance/test_ledger_keys.py"
LOADING = "tests/integration/test_loading.py"
SESSION = "tests/integration/test_session.py"
PREFLIGHT = "tests/integration/test_preflight.py"
RECORD = "tests/integration/test_run_record.py"
REFUSED = "tests/integration/test_refused_rows.py"
VALUES = "tests/integration/test_stored_values.py"
RECEIVING = "tests/integration/test_receiving.py"
CANARY = "tests/acceptance/test_canary.py"
FIRST_USE = "tests/integration/test_first_use.py"
ENDING = "tests/integration/test_ending.py"
RECEIVES = "tests/acceptance/test_receive_limits.py"
SAMPLES = "tests/integration/test_samples.py"
TRANSPORT = "tests/unit/test_transport.py"
CURL = "tests/unit/test_curl.py"
RECEIVERS = "tests/integration/test_receivers.py"
FORK_SERVER = "tests/unit/test_fork_server.py"
AT_ONCE = "tests/integration/test_at_once.py"
PEEK = "tests/integration/test_peek.py"
SHAPES = "tests/unit/test_shapes.py"
DELETES = "tests/integration/test_refused_deletes.py"
ON_CONFLICT = "tests/integration/test_on_conflict.py"
ROUTES = "tests/integration/test_routes.py"
ROUTES_UNIT = "tests/unit/test_routes.py"
SPLITTING = "tests/unit/test_splitting.py"
WITHOUT = "tests/unit/test_without.py"
CONFIGURED_CHECKS = "tests/unit/test_configured_checks.py"
COLUMNS_PAGE = "tests/integration/test_columns_page.py"
PATHS = "tests/unit/test_paths.py"
PAYLOADS = "tests/unit/test_payloads.py"


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
        "        drain.consumer.acknowledge(events.messages)\n"
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
        "etl/sqs/schedule.py",
        "            self._enter(message_id, _Held(",
        "            if message_id in self._held:\n"
        "                continue\n"
        "            self._enter(message_id, _Held(",
        (f"{RECEIVING}::test_a_redelivery_while_held_is_one_message_with_two_deliveries",),
    ),
    Bug(
        "never extends the visibility timeout",
        "etl/sqs/heartbeat.py",
        "        self._watcher.start()\n",
        "        pass\n",
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
        "            not_released = self._release(messages)\n",
        "            not_released = 0\n",
        (f"{CRASHES}::test_a_database_that_stays_away_ends_the_run_and_keeps_the_messages",),
    ),
    Bug(
        "is idle while a poll has not been answered",
        "etl/sqs/timers.py",
        "self._silent_until >= end and all(began >= end for began in self._polls.values())",
        "self._silent_until >= end",
        (f"{ENDING}::test_a_poll_without_an_answer_is_waited_for",),
    ),
    Bug(
        "ends as idle although messages are visible",
        "etl/sqs/timers.py",
        "        if visible == 0:\n",
        "        if True:\n",
        (f"{ENDING}::test_messages_that_are_visible_but_come_late_are_waited_for",),
    ),
    Bug(
        "begins a batch after max_seconds",
        "etl/sqs/receiver.py",
        "if self._stop.is_time_up and not self._polling.is_awaited:",
        "if False:",
        (f"{ENDING}::test_no_batch_begins_when_the_time_is_up",),
    ),
    Bug(
        "counts a message that was delivered twice only once",
        "etl/batch.py",
        "            already_handled=self.deliveries - loaded - quarantined,\n",
        "            already_handled=len(self.events.messages) - loaded - quarantined,\n",
        (f"{CRASHES}::test_a_message_delivered_twice_within_a_batch_is_loaded_once",),
    ),
    Bug(
        "counts rows loaded by another run as its own",
        "etl/batch.py",
        "        loaded = len(stored.loaded)\n",
        "        loaded = len(self.masked)\n",
        (f"{CRASHES}::test_two_runs_at_once_load_each_message_once",),
    ),
    Bug(
        "overflows the stack on deeply nested JSON",
        "etl/reading/spans.py",
        '    if text.count("[") + text.count("{") > MAX_NESTING and _depth(text) > MAX_NESTING:\n',
        "    if False:\n",
        ("tests/unit/test_extract.py",),
    ),
    Bug(
        "accepts true as the integer 1",
        "etl/schema.py",
        "    allowed = frozenset((*python, type(None), type(ABSENT)))\n",
        "    allowed = frozenset((*python, bool, type(None), type(ABSENT)))\n",
        ("tests/unit/test_validate.py",),
    ),
    Bug(
        "lets a lone surrogate through to the database",
        "etl/checks/searches.py",
        "    return [] if encodes(_all_text(values)) else bad(values, (str,), encodes)\n",
        "    return []\n",
        ("tests/unit/test_validate.py",),
    ),
    Bug(
        "does not bind tokens to their column",
        "etl/crypto/recoverable.py",
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
        "logs the frame of pandera's error",
        "etl/checks/failures.py",
        "        found = errors.schema_errors\n",
        "        found = errors.schema_errors\n"
        '        __import__("logging").getLogger("etl").warning("%s", errors.data.to_dict())\n',
        (f"{CANARY}::test_no_canary_is_found_anywhere",),
    ),
    Bug(
        "keeps the driver's error as the cause of its own",
        "etl/postgres/engine.py",
        "        raise found from None\n",
        "        raise found from error\n",
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
        "judges a refused login by its text",
        "etl/postgres/login.py",
        '_SERVER_SAID = ":  "',
        '_SERVER_SAID = "FATAL:  password"',
        ("tests/unit/test_login.py",),
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
        "etl/parts.py",
        "            ledger.free(self.connection, free_keys, batch_id.run_id)\n",
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
        ("tests/integration/test_pruning.py::test_old_ids_are_removed",),
    ),
    Bug(
        "takes another key for the one that its id had before",
        "etl/postgres/key_checks.py",
        "        if hmac.compare_digest(first.check_value, check_value(keyring, first.key_id)):\n",
        "        if first.check_value:\n",
        (f"{FIRST_USE}::test_jobs_that_share_a_table_or_a_name_must_have_the_same_keys",),
    ),
    Bug(
        "masks a column under another context than before",
        "etl/postgres/contexts.py",
        "    if column.masking_context != first.context:\n",
        "    if first.context is None:\n",
        ("tests/unit/test_contexts.py::test_the_lines_of_the_error_repair_the_configuration",),
    ),
    Bug(
        "loads one of two different values of a field",
        "etl/reading/paths.py",
        "        raise TwoValuesError(field)\n",
        "        values = values[:1]\n",
        ("tests/unit/test_field_names.py::test_different_values_are_a_reject",),
    ),
    Bug(
        "takes an event of one job for an event of another",
        "etl/fingerprints.py",
        'json.dumps([*within, name]).encode() + b"\\0"',
        'f"{name}\\0".encode()',
        (f"{JOBS}::test_an_event_of_an_earlier_version_is_not_taken_for_another_jobs",),
    ),
    Bug(
        "takes a message id of one job for that of another",
        "etl/sql/queries.sql",
        "        (select job_id from etl.jobs join etl.runs using (job) "
        "where run_id = cast(:run_id as uuid)), 0\n",
        "        cast(null as smallint), 0\n",
        (f"{JOBS}::test_each_job_claims_a_message_id_once",),
    ),
    Bug(
        "forgets at an update which ids an earlier version had handled",
        "etl/sql/queries.sql",
        "where earlier.message_id = ids.message_id and earlier.job_id = 0",
        "where false",
        (f"{JOBS}::test_ids_of_an_earlier_version_count_for_every_job",),
    ),
    Bug(
        "replays the entries of all jobs",
        "etl/operations/entries.py",
        '            "job": self.job,\n            "ids"',
        '            "job": None,\n            "ids"',
        (f"{JOBS}::test_replay_all_leaves_the_entries_of_other_jobs",),
    ),
    Bug(
        "stores a field as it came that was masked when it was quarantined",
        "etl/operations/masked_before.py",
        "        if wholes:\n",
        "        if False:\n",
        (f"{JOBS}::test_replay_stores_no_field_as_it_came_that_was_masked",),
    ),
    Bug(
        "leaves it to the role whether a COMMIT is on disk when it is answered",
        "etl/postgres/session.py",
        "then 'remote_apply' else 'on' end, true)",
        "then 'remote_apply' else pg_catalog.current_setting('synchronous_commit') end, true)",
        (f"{SESSION}::test_a_commit_waits_for_the_disk_at_least",),
    ),
    Bug(
        "encodes text as the environment says",
        "etl/postgres/engine.py",
        '    "client_encoding": "UTF8",\n',
        "",
        (f"{SESSION}::test_no_client_encoding_changes_a_text",),
    ),
    Bug(
        "stages rows in a table that comes earlier in the role's search path",
        "etl/postgres/session.py",
        "'^pg_(catalog$|temp)'",
        "'^$'",
        (f"{SESSION}::test_a_transaction_has_its_own_settings",),
    ),
    Bug(
        "acknowledges a commit that its synchronous standby does not have",
        "etl/pipeline.py",
        "            wait_for_commits(drain.engine)\n",
        "            pass\n",
        (f"{FAULTS}::test_a_commit_without_its_standby_is_not_acknowledged",),
    ),
    Bug(
        "takes part of a password for the host",
        "etl/postgres/engine.py",
        "    check_parts(text)\n",
        "",
        ("tests/unit/test_database_url.py",),
    ),
    Bug(
        "lets the good messages of the past pay for bad ones",
        "etl/quarantine.py",
        "        self._window = None if window is None else max(window, settings.min_messages)\n",
        "        self._window: int | None = None\n",
        ("tests/unit/test_budget.py",),
    ),
    Bug(
        "counts a batch that is tried again twice in its budget",
        "etl/quarantine.py",
        "        self._checked = list(batch)\n",
        "        self._checked = [*self._checked, *batch]\n",
        ("tests/unit/test_budget.py",),
    ),
    Bug(
        "counts the sample of a budget stop as quarantined",
        "etl/sql/tables.sql",
        "where not is_sample\ngroup by",
        "group by",
        (f"{SAMPLES}::test_a_sample_is_neither_quarantined_nor_handled",),
    ),
    Bug(
        "quarantines a message at its first damaged delivery",
        "etl/sqs/arrivals.py",
        "MAX_DAMAGED = 3 ",
        "MAX_DAMAGED = 1 ",
        (f"{RECEIVES}::test_a_message_that_arrives_damaged_is_received_again_and_loaded",),
    ),
    Bug(
        "releases a damaged message on its last receive",
        "etl/sqs/arrivals.py",
        "        if times >= MAX_DAMAGED or is_last:\n",
        "        if times > MAX_DAMAGED:\n",
        (f"{RECEIVES}::test_a_message_that_always_arrives_damaged_ends_in_quarantine",),
    ),
    Bug(
        "quarantines messages that come without SentTimestamp",
        "etl/sqs/arrivals.py",
        "        self._has_sent_time = any(message.sent_ms is not None for message in messages)\n",
        "        self._has_sent_time = True\n",
        ("tests/unit/test_arrivals.py::test_messages_without_a_time_stop_the_run",),
    ),
    Bug(
        "uses the last receives of messages to look at them",
        "etl/dry_run.py",
        "RECEIVES_TO_LEAVE = 2\n",
        "RECEIVES_TO_LEAVE = 0\n",
        (f"{RECEIVES}::test_looks_leave_the_messages_to_a_run",),
    ),
    Bug(
        "receives again what it has released after a failure",
        "etl/sqs/consumer.py",
        "        messages = [*messages, *self._kept, *self._receiver.end()]\n",
        "        messages = messages or self._receiver.end()\n",
        (f"{RECEIVES}::test_a_run_that_fails_uses_one_receive_of_each_message",),
    ),
    Bug(
        "holds full batches whatever receives are left",
        "etl/sqs/pace.py",
        "        self._grows = grows\n",
        "        self._grows = False\n",
        ("tests/chaos/test_smoke.py::test_no_message_becomes_a_dead_letter",),
    ),
    Bug(
        "counts a row as loaded that a trigger has dropped",
        "etl/postgres/bisection.py",
        "        if outcome.taken != stop - start:\n",
        "        if outcome.taken > stop - start:\n",
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
        "etl/fieldtypes/numbers.py",
        "    return type(value) is not Real or _keeps_digits(value.text, value)\n",
        "    return True\n",
        (f"{VALUES}::test_a_value_that_the_type_cannot_hold_exactly_is_a_reject",),
    ),
    Bug(
        "receives messages for a table that cannot take them",
        "etl/preflight.py",
        "        check_target(engine, table)\n",
        "        pass\n",
        (f"{PREFLIGHT}::test_a_run_and_init_refuse_before_anything_is_received",),
    ),
    Bug(
        "forgets which checks the messages failed that it releases",
        "etl/pipeline.py",
        "        _note_released(drain, batch, known)\n",
        "        del known\n",
        (f"{RECORD}::test_a_budget_stop_keeps_its_sentence_and_what_was_released",),
    ),
    Bug(
        "keeps names of unknown fields that may be personal",
        "etl/postgres/findings.py",
        "        kept[name if is_kept else None] += count\n",
        "        kept[name if is_kept or count else None] += count\n",
        (f"{RECORD}::test_a_run_keeps_the_names_of_fields_that_no_column_reads",),
    ),
    Bug(
        "lets its sign of life wait for a batch",
        "etl/sql/queries.sql",
        "for no key update skip locked\n",
        "for no key update\n",
        (f"{RECORD}::test_a_sign_of_life_waits_for_no_batch",),
    ),
    Bug(
        "gives no sign of life",
        "etl/postgres/sign_of_life.py",
        "    while not done.wait(every_seconds):\n",
        "    while not done.wait():\n",
        (f"{RECORD}::test_a_run_that_waits_for_messages_gives_signs_of_life",),
    ),
    Bug(
        "takes the body of any answer for what SQS answers",
        "etl/sqs/transport.py",
        " if status == 200 else None",
        " if status else None",
        (f"{TRANSPORT}::test_what_botocore_makes_of_an_unusual_answer_counts",),
    ),
    Bug(
        "signs every call with the credentials of the start",
        "etl/sqs/client.py",
        "signer, credentials.get_frozen_credentials)",
        "signer, lambda first=credentials.get_frozen_credentials(): first)",
        (f"{TRANSPORT}::test_credentials_are_asked_for_each_time",),
    ),
    Bug(
        "signs with its own clock although SQS has told the time",
        "etl/sqs/transport.py",
        "time.time() + self._skew_seconds",
        "time.time()",
        (f"{TRANSPORT}::test_a_wrong_clock_is_corrected_once",),
    ),
    Bug(
        "asks again through botocore when no answer came in time",
        "etl/sqs/transport.py",
        "if error.failure is Failure.TIMED_OUT:",
        "if error.failure is None:",
        (f"{TRANSPORT}::test_an_answer_that_does_not_come_is_an_outage_at_once",),
    ),
    Bug(
        "follows a redirect with a signed call",
        "etl/aws/curl.py",
        "pycurl.FOLLOWLOCATION: 0",
        "pycurl.FOLLOWLOCATION: 1",
        (f"{CURL}::test_a_redirect_is_the_answer",),
    ),
    Bug(
        "trusts any certificate",
        "etl/aws/curl.py",
        "pycurl.SSL_VERIFYPEER: 1",
        "pycurl.SSL_VERIFYPEER: 0",
        (f"{CURL}::test_a_certificate_that_does_not_fit_is_refused",),
    ),
    Bug(
        "uses the connections of its parent after a fork",
        "etl/aws/curl.py",
        "if self._process != os.getpid():",
        "if self._process is None:",
        (f"{TRANSPORT}::test_a_fork_makes_its_own_connections",),
    ),
    Bug(
        "never has a second receive in flight",
        "etl/sqs/receives.py",
        "min(self._wanted + 1, self._max)",
        "min(self._wanted, self._max)",
        (f"{RECEIVERS}::test_a_full_queue_is_received_by_all_receivers",),
    ),
    Bug(
        "polls an empty queue with all its receivers",
        "etl/sqs/receives.py",
        "max(self._wanted / 2, 1.0)",
        "max(self._wanted, 1.0)",
        (f"{RECEIVERS}::test_an_empty_queue_is_polled_by_one_receiver",),
    ),
    Bug(
        "lets one worker that cannot be forked end the server of all",
        "etl/workers/fork_server.py",
        "            except OSError as error:\n",
        "            except InterruptedError as error:\n",
        (f"{FORK_SERVER}::test_a_worker_that_cannot_be_forked_ends_alone",),
    ),
    Bug(
        "lets a worker hide the end of its server",
        "etl/workers/fork_server.py",
        "args=(control if is_fork else None, ",
        "args=(None, ",
        (f"{FORK_SERVER}::test_the_exit_code_of_a_worker_is_its_own_while_its_server_lives",),
    ),
    Bug(
        "hashes the rows of every report with the same seed",
        "etl/analysis/digests.py",
        "seed = secrets.randbits(63)",
        "seed = 63",
        (f"{AT_ONCE}::test_no_two_reports_have_the_same_hashes",),
    ),
    Bug(
        "takes two users for one whose numbers differ by 4294967295",
        "etl/analysis/digests.py",
        '20: "int8send({})"',
        '20: "{}"',
        (f"{AT_ONCE}::test_values_that_postgres_gives_equal_hashes_are_not_equal",),
    ),
    Bug(
        "names the rows of a report as they are now",
        "etl/analysis/named.py",
        "self._source.ask(",
        "Source(self._source.engine, self._source.settings).ask(",
        (f"{AT_ONCE}::test_rows_are_named_as_they_were_when_they_were_counted",),
    ),
    Bug(
        "ends with exit code 0 although SQS refuses all deletes",
        "etl/sqs/acknowledge.py",
        "            self._note_refusal(error)\n",
        "",
        (
            f"{DELETES}::test_a_job_that_may_not_delete_fails_and_the_next_run_deletes_what_it_loaded",
        ),
    ),
    Bug(
        "receives on although SQS refuses all deletes",
        "etl/sqs/consumer.py",
        "        self.stop.request(error.stop_reason, release_rest=True)\n",
        "",
        (f"{DELETES}::test_a_refusal_of_deletes_ends_the_run_at_once",),
    ),
    Bug(
        "takes a stale receipt handle for a missing right",
        "etl/sqs/queue.py",
        'if words := answers.refusal(code, "DeleteMessageBatch"):',
        'if words := answers.refusal(code, "DeleteMessageBatch") or "no right":',
        (f"{DELETES}::test_a_stale_handle_or_an_outage_is_no_refusal",),
    ),
    Bug(
        "looks at messages and does not give them back",
        "etl/operations/peek.py",
        "look.not_released = release(queue, heartbeat, messages, AtOnce(CallQueue(1)))",
        "look.not_released = 0",
        (f"{PEEK}::test_whatever_ends_a_look_gives_the_messages_back",),
    ),
    Bug(
        "shows which characters of an id are digits",
        "etl/operations/shapes.py",
        'if "m" in kinds or (letters and "d" in kinds):',
        "if False:",
        (f"{SHAPES}::test_values_that_a_guess_could_tell_apart_look_alike",),
    ),
    Bug(
        "loads only one of the equal events of a message",
        "etl/reading/splitting.py",
        "    return [text[slice(*item)] for item in found]\n",
        "    return list(dict.fromkeys(text[slice(*item)] for item in found))\n",
        (f"{SPLITTING}::test_each_event_keeps_its_own_text",),
    ),
    Bug(
        "cuts an event in two where a text in it has a line separator",
        "etl/reading/splitting.py",
        'for line in text.split("\\n")',
        "for line in text.splitlines()",
        (f"{SPLITTING}::test_each_event_keeps_its_own_text",),
    ),
    Bug(
        "replaces a row by that of an older event which comes later",
        "etl/postgres/upsert.py",
        "{changes} where {is_newer}",
        "{changes}",
        (f"{ON_CONFLICT}::test_the_last_one_sent_wins_in_whatever_order_they_come",),
    ),
    Bug(
        "leaves masked members of the objects of a list in a json column",
        "etl/reading/without.py",
        "        return [_without(item, tree) for item in value if not _may_hold_it(item)]\n",
        "        return value\n",
        (f"{WITHOUT}::test_what_is_at_a_place_is_taken_out",),
    ),
    Bug(
        "reads a body from whatever bucket a message names",
        "etl/reading/pointers.py",
        "    if pointer.bucket not in buckets:\n",
        "    if not buckets:\n",
        (f"{PAYLOADS}::test_no_other_bucket_is_asked",),
    ),
    Bug(
        "believes the length that is announced of a body in S3",
        "etl/aws/objects.py",
        "                if len(content) > max_bytes:\n",
        "                if body._content_length and int(body._content_length) > max_bytes:\n",
        (f"{PAYLOADS}::test_an_endless_body_is_read_up_to_the_limit",),
    ),
    Bug(
        "takes a click for an order that has the same business id",
        "etl/batch.py",
        "        table=None if settings.routes is None else table.full_name,\n",
        "",
        (f"{ROUTES}::test_a_business_id_is_of_one_table",),
    ),
    Bug(
        "stores in one table what another one masks",
        "etl/config/settings.py",
        "        masked = (table.masked_fields for table in self.tables_of_job)\n",
        "        masked = (table.masked_fields for table in self.tables)\n",
        (f"{ROUTES}::test_a_json_column_holds_nothing_that_another_table_masks",),
    ),
    Bug(
        "lets a table store as it came what another one masks",
        "etl/config/routes.py",
        "                    check_masked(table.columns, other.columns, of_table)\n",
        "                    pass\n",
        (f"{ROUTES_UNIT}::test_what_one_table_masks_no_other_stores",),
    ),
    Bug(
        "lets a table store an attribute as it came that another one masks",
        "etl/config/hidden.py",
        "    attributes = {column.source: column.name for column in masked if not column.fields}\n",
        "    attributes: dict[str, str] = {}\n",
        (f"{ROUTES_UNIT}::test_a_masked_attribute_is_not_stored_by_another_table",),
    ),
    Bug(
        "lets two tables show different parts of one value",
        "etl/config/routes.py",
        "        check_parts(owned)\n",
        "",
        (f"{ROUTES_UNIT}::test_two_tables_show_no_different_parts_of_one_field",),
    ),
    Bug(
        "lets columns of two tables share a context and read values in other ways",
        "etl/config/routes.py",
        "        check_contexts(owned)\n",
        "",
        (f"{ROUTES_UNIT}::test_columns_of_two_tables_that_share_a_context_give_equal_tokens",),
    ),
    Bug(
        "takes rows of one table for a sign that another one takes rows",
        "etl/pipeline.py",
        "doubt.table in drain.totals.tables",
        "drain.totals.counts.loaded",
        (f"{ROUTES}::test_rows_of_the_other_table_say_nothing_of_a_table_that_refuses_all",),
    ),
    Bug(
        "compares a number that is to be masked with its limits as text",
        "etl/checks/column_values.py",
        '    if column.mask and column.type not in ("text", "ip"):\n',
        "    if column.mask is None:\n",
        (f"{CONFIGURED_CHECKS}::test_a_value_to_be_masked_is_checked_as_a_value_of_its_type",),
    ),
    Bug(
        "gives the default to an event in which the field is null",
        "etl/reading/cleaning.py",
        "return [default if value is ABSENT else value for value in values]",
        "return [default if value in (ABSENT, None) else value for value in values]",
        (f"{COLUMNS_PAGE}::test_each_example_is_stored_or_refused_as_the_page_says",),
    ),
    Bug(
        "takes the first of two values of a field that differ",
        "etl/reading/paths.py",
        "    if not all(_is_same(values[0], other) for other in values[1:]):\n",
        "    if not values:\n",
        (f"{PATHS}::test_a_field_may_have_several_paths",),
    ),
)
