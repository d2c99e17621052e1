"""Settings are read from config.yaml, the environment and the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from etl import config
from etl.cli import main
from etl.config.conversion import fields, sections
from etl.errors import SettingsError
from tests.unit.builders import ROOT

COLUMN = "{name: a, field: a, type: text}"


def load(tmp_path: Path, text: str, **environment: str) -> config.Settings:
    """Load settings from the text of a file."""
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return config.load(path, environment)


def problem(tmp_path: Path, text: str, **environment: str) -> str:
    """Return the error message for the text of a file."""
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, text, **environment)
    return str(caught.value)


def table(*columns: str) -> str:
    """Return a table section with these columns."""
    return "table: {columns: [" + ", ".join(columns or (COLUMN,)) + "]}\n"


def test_config_yaml_holds_every_key_and_no_other() -> None:
    """The default configuration shows every setting there is."""
    tree = yaml.safe_load((ROOT / "config.yaml").read_text())
    known = {
        section: set(fields(model))
        for section, model in sections(config.Settings).items()
        if section != "routes"  # in place of the table
    }
    known["database"] -= {"url"}
    assert {section: set(keys) for section, keys in tree.items()} == known


def test_config_yaml_holds_the_defaults() -> None:
    """Deleting a line from config.yaml changes nothing."""
    written = config.load(ROOT / "config.yaml", {})
    default = config.Settings(table=written.table)
    assert written == default


def test_the_default_configuration_in_the_package_is_config_yaml() -> None:
    """The file that ``etl config show`` prints is a link to the one in the repository."""
    packaged = ROOT / "etl" / "default_config.yaml"
    assert packaged.read_bytes() == (ROOT / "config.yaml").read_bytes()


def test_config_show_prints_config_yaml() -> None:
    """Its output is a configuration file, comments and all."""
    result = CliRunner().invoke(main, ["config", "show"])
    assert result.exit_code == 0
    assert result.output == (ROOT / "config.yaml").read_text()


def test_config_yaml_is_ascii() -> None:
    """Any terminal can show it, whatever its encoding."""
    assert (ROOT / "config.yaml").read_bytes().isascii()


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    """The value of an ETL_SECTION__KEY variable has the type of its setting."""
    settings = load(tmp_path, table() + "batch: {rows: 5}", ETL_BATCH__ROWS="7")
    assert settings.batch.rows == 7


def test_a_value_of_the_command_line_has_no_line(tmp_path: Path) -> None:
    """The line of its section in the file would be misleading."""
    path = tmp_path / "config.yaml"
    path.write_text(table() + "batch: {rows: 5}")
    with pytest.raises(SettingsError) as caught:
        config.load(path, {}, {"batch.rows": 0})
    said = "setting 'batch.rows': must be a whole number from 1 to 50,000, not 0"
    assert str(caught.value) == said


def test_the_command_line_overrides_the_environment() -> None:
    """An override of None means that the option was not given."""
    settings = config.load(
        ROOT / "config.yaml",
        {"ETL_RUN__IDLE_SECONDS": "5", "ETL_RUN__MAX_MESSAGES": "6"},
        {"run.idle_seconds": 2.5, "run.max_messages": None},
    )
    assert (settings.run.idle_seconds, settings.run.max_messages) == (2.5, 6)


@pytest.mark.parametrize(
    ("text", "environment", "words"),
    [
        (table() + "queue: {ulr: x}", {}, ["'queue.ulr'", "did you mean 'url'"]),
        (table() + "qeue: {url: x}", {}, ["'qeue'", "did you mean 'queue'"]),
        (table("{name: a, field: a, type: text, maks: true}"), {}, ["maks", "'mask'"]),
        (table(), {"ETL_QUEUE__ULR": "x"}, ["queue.ulr"]),
        (table(), {"ETL_QEUE__URL": "x"}, ["ETL_QEUE__URL", "'queue'"]),
        (table(), {"ETL_QUEUE_URL": "x"}, ["ETL_QUEUE_URL", "two underscores"]),
        (table() + "batch: {rows: 0}", {}, ["batch.rows", "from 1 to 50,000, not 0"]),
        *(
            (table() + f"{section}: {{{name}: 3000000000000}}", {}, [f"{section}.{name}", "number"])
            for section, name in (
                ("database", "answer_seconds"), ("database", "connect_seconds"),
                ("database", "retry_seconds"), ("ledger", "retention_days"),
                ("quarantine", "sample_days"), ("unmask", "statement_seconds"),
                ("run", "max_seconds"),
            )
        ),
        (table() + "batch: {rows: many}", {}, ["batch.rows", "a whole number from 1 to 50,000"]),
        (table() + "load: {method: row}", {}, ["load.method", "'row'; known are multi, copy"]),
        ("queue: {url: x}", {}, ["'table' is missing"]),
        ("table: {columns: []}", {}, ["at least one column"]),
        (table(COLUMN, COLUMN), {}, ["'a' is listed twice"]),
        (table(COLUMN, "{name: ip, field: b, type: x}"), {}, ["column 'ip': unknown type 'x'"]),
        (table(COLUMN, "{name: ip, field: b, type: text, mak: 1}"), {},
         ["column 'ip': unknown key 'mak'; did you mean 'mask'"]),
        (table(COLUMN, "{field: b, type: text}"), {}, ["column number 2: 'name' is missing"]),
        (table(COLUMN, "7"), {}, ["column number 2: must hold keys such as name"]),
        (table("{name: ctid, field: a, type: text}"), {}, ["'ctid'", "reserved for Postgres"]),
        (table("{name: " + "ö" * 32 + ", field: a, type: text}"), {}, ["64 bytes", "at most 63"]),
        ("table: {name: " + "漢" * 22 + ", columns: [" + COLUMN + "]}", {}, ["66 bytes"]),
        ("table: {schema: " + "x" * 64 + ", columns: [" + COLUMN + "]}", {}, ["64 bytes"]),
        (table("{name: b, field: [a, c], type: text}", "{name: a, field: a, type: text}"), {},
         ["'a' is read by two columns under different lists of names"]),
        (table("{name: b, field: a, type: text, mask: true}", "{name: c, field: a, type: text}"),
         {}, ["'a' is masked in column 'b', and column 'c' would store it as it came"]),
        (table("{name: b, constant: x, type: text}", "{name: c, field: constant b, type: text}"),
         {}, ["name of another column's source"]),
        (table("{name: b, field: a, attribute: SenderId, type: text}"), {}, ["needs one source"]),
        (table("{name: b, field: a..b, type: text}"), {}, ["is not a path", "'customer.email'"]),
        (table("{name: b, field: '[0].a', type: text}"), {}, ["must begin with a name"]),
        (table("{name: b, metadata: run_id, type: date}"), {}, ["'run_id' must have type 'text'"]),
        (table("{name: b, attribute: SenderId, type: text, default: x}"), {}, ["'default'"]),
        (table("{name: b, constant: x, type: text, mask: true}"), {}, ["can be masked"]),
        (table("{name: message_id, field: a, type: text}"), {}, ["'message_id'"]),
        (table("{name: a, type: text}"), {}, ["needs one source: 'field', 'attribute'"]),
        (table("{name: a, field: a, type: boolean, mask: true}"), {}, ["can be masked"]),
        (table("{name: a, field: a, type: text, required: false}"), {}, ["must be nullable"]),
        (table("{name: a, attribute: SentTimestamp, type: text}"), {}, ["'date' or 'timestamp'"]),
        (table() + "run: {workers: 20}", {}, ["run.workers", "batch.rows", "400,000", "120,000"]),
        (table() + "report: {entity: b}", {}, ["report.entity is 'b'", "not a column"]),
        (table() + "report: {time: a}", {}, ["report.time is 'a'", "'timestamp' or 'datetime'"]),
        ("table: {columns: [" + COLUMN + "], indexes: [[a, a]]}", {}, ["table.indexes", "twice"]),
        ("- a\n- b", {}, ["must hold sections"]),
        ("table: {columns: [", {}, ["not YAML at line"]),
        ("queue: 7\n" + table(), {"ETL_QUEUE__URL": "x"}, ["section 'queue': must hold keys"]),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_the_way_out(
    tmp_path: Path, text: str, environment: dict[str, str], words: list[str]
) -> None:
    """The message names the setting to change, and what to change it to."""
    message = problem(tmp_path, text, **environment)
    for word in words:
        assert word in message


def test_several_mistakes_are_reported_at_once(tmp_path: Path) -> None:
    """The user can fix all of them before the next start."""
    message = problem(tmp_path, table() + "batch: {rows: 0}\nload: {methd: copy}")
    assert "batch.rows" in message
    assert "load.methd" in message


@pytest.mark.parametrize(
    ("text", "environment"),
    [
        ("database: {url: postgresql://u:hunter2@h/d}\n" + table(), {}),
        ("hunter2: 1\nhunter2\n", {}),
        (table() + "batch: {rows: hunter2}", {}),
    ],
)
def test_an_error_never_repeats_a_value(
    tmp_path: Path, text: str, environment: dict[str, str]
) -> None:
    """A secret in the wrong place does not reach the log."""
    assert "hunter2" not in problem(tmp_path, text, **environment)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """The message also says which option names another file, and how to write the default one."""
    with pytest.raises(SettingsError, match=r"nowhere\.yaml.*--config.*etl config show"):
        config.load(tmp_path / "nowhere.yaml", {})


def test_a_file_of_nearly_the_same_name_is_suggested(tmp_path: Path) -> None:
    """In the folder of the one that was asked for."""
    (tmp_path / "orders.yaml").touch()
    with pytest.raises(SettingsError) as caught:
        config.load(tmp_path / "order.yml", {})
    assert f"; did you mean '{tmp_path}/orders.yaml'? else name another" in str(caught.value)


def test_quotes_around_the_name_of_the_file_are_taken_off(tmp_path: Path) -> None:
    """Docker leaves those of an env file in ETL_CONFIG."""
    (tmp_path / "my.yaml").write_text("queue: {ulr: x}\n" + table())
    environment = {"ETL_CONFIG": f"'{tmp_path}/my.yaml'\r"}
    done = CliRunner().invoke(main, ["audit"], env=environment)
    assert f"did you mean 'url'? ({tmp_path}/my.yaml line 1)" in str(done.exception)


def test_a_missing_config_yaml_is_named_with_the_command_that_writes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user who has just installed the package has no config.yaml yet."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError) as caught:
        config.load(Path("config.yaml"), {})
    assert str(caught.value) == (
        "no config.yaml in this folder; name a file with --config, or create one with: "
        "etl config show > config.yaml"
    )


def test_a_folder_is_not_a_configuration_file(tmp_path: Path) -> None:
    """The message repeats the operating system's reason."""
    with pytest.raises(SettingsError, match=r"cannot read .*: Is a directory; .*--config"):
        config.load(tmp_path, {})


def test_the_database_url_never_shows(tmp_path: Path) -> None:
    """It is in no repr and no dump, and the fingerprint does not depend on it."""
    settings = load(tmp_path, table(), DATABASE_URL="postgresql://u:hunter2@h/d")
    other = load(tmp_path, table(), DATABASE_URL="postgresql://u:other@h/d")
    assert "hunter2" not in repr(settings) + str(settings) + settings.model_dump_json()
    assert settings.config_hash == other.config_hash


def test_the_fingerprint_changes_with_a_setting(tmp_path: Path) -> None:
    """It identifies the configuration of a run."""
    default = load(tmp_path, table())
    changed = load(tmp_path, table(), ETL_BATCH__ROWS="9")
    assert default.config_hash != changed.config_hash


def test_settings_are_frozen(tmp_path: Path) -> None:
    """No part of the program can change them during a run."""
    settings: Any = load(tmp_path, table())
    with pytest.raises(ValueError, match="frozen"):
        settings.batch.rows = 3


def test_a_job_is_named_by_its_table_unless_it_has_a_name(tmp_path: Path) -> None:
    """The name may come from the environment too."""
    assert load(tmp_path, table()).job_name == "public.user_logins"
    text = table().replace("columns", "schema: sales, name: orders, columns")
    assert load(tmp_path, text).job_name == "sales.orders"
    assert load(tmp_path, text + "job: {name: nightly orders}").job_name == "nightly orders"
    assert load(tmp_path, text, ETL_JOB__NAME="é").job_name == "é"


@pytest.mark.parametrize(
    ("one", "other"),
    [(("a.b", "c"), ("a", "b.c")), (('"a"', "b"), ("a", "b")), (("a", "a.a"), ("a.a", "a"))],
)
def test_different_tables_have_different_job_names(
    one: tuple[str, str], other: tuple[str, str], tmp_path: Path
) -> None:
    """A dot or a quote in a name does not make two tables one job."""
    names = []
    for schema, name in (one, other):
        text = f"table: {{schema: '{schema}', name: '{name}', columns: [{COLUMN}]}}"
        names.append(load(tmp_path, text).job_name)
    assert names[0] != names[1]


@pytest.mark.parametrize(
    "name", ["''", "' '", "' a'", "'a '", '"a\\tb"', '"a\\0"', '"\\e[2J"', '"\\u202e"']
)
def test_a_job_name_is_printable_text(name: str, tmp_path: Path) -> None:
    """It is shown on terminals, and names that look alike are the same."""
    said = problem(tmp_path, table() + f"job: {{name: {name}}}")
    assert said.startswith("setting 'job.name': must be printable text")


def test_a_job_name_has_a_limit(tmp_path: Path) -> None:
    """It is part of every row of etl.runs and etl.quarantine."""
    assert load(tmp_path, table() + f"job: {{name: {'x' * 200}}}").job_name == "x" * 200
    assert "200" in problem(tmp_path, table() + f"job: {{name: {'x' * 201}}}")


def test_a_url_in_place_of_a_file_is_not_shown() -> None:
    """It may be DATABASE_URL."""
    for url in ("postgresql://etl:Sw0rdfish@h/etl", 'host=h {"password": "Sw0rdfish"}'):
        with pytest.raises(SettingsError, match=r"^no file of this name; ") as caught:
            config.load(Path(url), {})
        assert "Sw0rdfish" not in str(caught.value)


@pytest.mark.parametrize("service", ["ETL", "ETL_RUN", "ETL_QUEUE", "ETL_JOB_DB", "ETL__QUEUE"])
def test_the_service_links_of_kubernetes_are_not_settings(tmp_path: Path, service: str) -> None:
    """Every pod of a namespace gets them for each service there."""
    links = {
        f"{service}_SERVICE_HOST": "10.0.0.11",
        f"{service}_SERVICE_PORT": "5432",
        f"{service}_SERVICE_PORT_HTTP": "5432",
        f"{service}_PORT": "tcp://10.0.0.11:5432",
        f"{service}_PORT_5432_TCP": "tcp://10.0.0.11:5432",
        f"{service}_PORT_5432_TCP_PROTO": "tcp",
        f"{service}_PORT_5432_TCP_PORT": "5432",
        f"{service}_PORT_5432_TCP_ADDR": "10.0.0.11",
        f"{service}_PORT_53_UDP": "udp://10.0.0.11:53",
    }
    settings = load(tmp_path, table(), ETL_BATCH__ROWS="7", **links)
    assert settings.batch.rows == 7


@pytest.mark.parametrize(
    ("mistake", "meant"),
    [
        ("ETL_QUEUE_URL", "ETL_QUEUE__URL"),
        ("ETL_RUN_MAX_MESSAGES", "ETL_RUN__MAX_MESSAGES"),
        ("ETL_TABLE_SCHEMA", "ETL_TABLE__SCHEMA"),
        ("ETL_KEYRING_FLIE", "ETL_KEYRING_FILE"),
        ("ETL_DATABASE_URL", "DATABASE_URL"),
    ],
)
def test_a_misspelt_variable_is_an_error_that_names_the_right_one(
    tmp_path: Path, mistake: str, meant: str
) -> None:
    """An underscore is easily lost."""
    message = problem(tmp_path, table(), **{mistake: "x"})
    assert message.startswith(f"unknown variable {mistake!r}")
    assert message.endswith(f"did you mean {meant!r}?")


@pytest.mark.parametrize("mistake", ["ETL_QUEUE__PORT", "ETL_RUN__SERVICE_HOST", "ETL_PORTS"])
def test_a_variable_that_only_resembles_a_service_link_is_an_error(
    tmp_path: Path, mistake: str
) -> None:
    """A service with two hyphens in its name brings its address along."""
    assert (
        mistake.removeprefix("ETL_").lower().replace("__", ".")
        in problem(tmp_path, table(), **{mistake: "1"}).lower()
    )
