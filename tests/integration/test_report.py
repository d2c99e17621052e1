"""The duplicate report in every format, and its page in a real browser."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from etl.analysis.opening import open_source
from etl.analysis.source import Source
from etl.embedded.postgres import EmbeddedPostgres
from etl.errors import UsageError
from etl.report import files
from etl.report.build import TITLES, Choice, Report, build_report
from etl.report.html import TABLES, render
from etl.report.jinja import fill_template
from tests import fork_server
from tests.acceptance.job_processes import held_sessions, make_tables, until
from tests.chaos.database import session
from tests.conftest import ROOT, Job
from tests.integration.test_duplicates import create, fill, token

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&"
FORMULA = '=cmd|"/c calc"!A1'
# make installs requirements-report.txt into this folder, inside the environment.
EXTRA = Path(sys.prefix) / "report"
CHROMIUM, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
browsing = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no chromium and chromedriver on PATH: the page is not opened"
)
extra = pytest.mark.skipif(
    not EXTRA.exists(), reason=f"no {EXTRA}: make installs requirements-report.txt there"
)


def login(user: str, device: int, address: int, **changes: Any) -> dict[str, Any]:
    """Make the row of a login, with some columns changed."""
    return {
        "user_id": user,
        "device_type": HOSTILE[:25],  # the script
        "masked_ip": token(address),
        "masked_device_id": token(device, "k2" if device > 5 else "k1"),
        "locale": FORMULA,
        "app_version": 1,
        "create_date": "2026-11-01",
        **changes,
    }


LOGINS = [
    *(login(f"user {i:02d}", 0, i) for i in range(12)),
    *(login("user 00", i, 100) for i in range(1, 9)),
    login("user 01", 2, 101, create_date="2026-11-03"),
    login(FORMULA, 3, 102),
    login(FORMULA, 3, 102),
    login(HOSTILE, 4, 103),
]


@pytest.fixture(scope="module")
def source(postgres: EmbeddedPostgres) -> Iterator[Source]:
    """The default table with logins under two keys, some with hostile values."""
    url = postgres.new_database()
    opened = open_source(ROOT / "config.yaml", {"DATABASE_URL": url})
    create(opened)
    fill(opened, LOGINS)
    yield opened
    opened.engine.dispose()
    postgres.drop_database(url)


@pytest.fixture(scope="module")
def report(source: Source) -> Report:
    """The report on these logins."""
    return build_report(source, Choice())


def command(source: Source, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run ``report duplicates`` in a process of its own."""
    url = source.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    environment = {"PATH": os.environ["PATH"], "DATABASE_URL": url, **more}
    return fork_server.run(["report", "duplicates", *arguments], environment)


def test_the_terminal_shows_the_headline_the_notes_and_the_tables(source: Source) -> None:
    """The notes are about redeliveries and about keys that cannot be compared."""
    done = command(source, "--top", "3")
    assert done.returncode == 0, done.stderr
    out = " ".join(done.stdout.split())
    assert "rows 24, users 14, surplus rows 1" in out
    assert "of 0 deliveries in 0 runs, 0 had already been handled" in out
    assert "'masked_device_id' has 21 under 'k1', 3 under 'k2'" in out
    assert "1 masked_device_id" in out


def test_a_period_and_a_column_narrow_the_report(source: Source) -> None:
    """The period includes its start and excludes its end."""
    narrow = build_report(source.between("2026-11-03", "2026-11-04"), Choice(by="masked_device_id"))
    assert (narrow.rows, narrow.users) == (1, 1)
    assert narrow.sections["columns"].frame["column"].tolist() == ["masked_device_id"]
    assert narrow.options["since"] == "2026-11-03T00:00:00+00:00"
    assert build_report(source.between("2026-11-02", "2026-11-03"), Choice()).rows == 0


def test_a_wrong_column_is_a_usage_error_that_lists_the_columns(source: Source) -> None:
    """The error is one line without a traceback, and the exit code is 2."""
    done = command(source, "--by", "shoe_size")
    assert done.returncode == 2
    assert done.stderr.startswith(
        "error: 'shoe_size' is not a column to compare; choose one of device_type"
    )
    assert done.stderr.count("\n") == 1


def test_the_error_about_a_file_that_cannot_be_written_names_it(
    source: Source, tmp_path: Path
) -> None:
    done = command(source, "--html", str(tmp_path / "absent" / "page.html"))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "cannot write" in done.stderr
    assert "page.html" in done.stderr


def test_csv_holds_every_table_and_no_formula(report: Report, tmp_path: Path) -> None:
    """A text that a spreadsheet would take for a formula gets a leading apostrophe."""
    files.write_csv(report, tmp_path)
    for section in report.sections.values():
        read = pd.read_csv(tmp_path / f"{section.name}.csv", keep_default_na=False, dtype=str)
        assert len(read) == len(section.frame)
        assert not any(read[name].str.startswith(files.FORMULA).any() for name in read)
    exact = pd.read_csv(tmp_path / "exact_rows.csv")
    assert exact["user_id"].tolist() == [f"'{FORMULA}"]
    assert exact["copies"].tolist() == [2]


def test_csv_comes_with_a_file_about_its_origin(report: Report, tmp_path: Path) -> None:
    """The file holds the queries, the time, the number of rows and the key ids."""
    files.write_csv(report, tmp_path)
    about = json.loads((tmp_path / "report.json").read_text())
    assert (about["rows"], about["key ids"]) == ("24", "k1, k2")
    assert about["time"].endswith("+00:00")
    assert about["tables"]["shared_values"]["query"].startswith("-- Values that")
    assert about["tables"]["exact_rows"]["table rows"] == 1


@pytest.mark.parametrize(
    ("write", "module"), [(files.write_parquet, "pyarrow"), (files.write_workbook, "xlsxwriter")]
)
def test_the_error_about_a_missing_library_says_how_to_install_it(
    write: Callable[[Report, Path], None], module: str, report: Report, tmp_path: Path
) -> None:
    """The environment of the job has neither library."""
    with pytest.raises(
        UsageError, match=rf"needs {module}.*'report' .*requirements-report\.txt\)$"
    ):
        write(report, tmp_path / "file")


@extra
def test_parquet_and_workbook_hold_the_same(source: Source, report: Report, tmp_path: Path) -> None:
    """The command runs in a process that finds the libraries, as on an analyst's machine."""
    done = command(
        source,
        *("--parquet", str(tmp_path / "parquet")),
        *("--xlsx", str(tmp_path / "report.xlsx")),
        PYTHONPATH=str(EXTRA),
    )
    assert done.returncode == 0, done.stderr
    code = (
        "import json, sys, pyarrow.parquet as files; t = files.read_table(sys.argv[1]); "
        "print(json.dumps([t.to_pylist(), json.loads(t.schema.metadata[b'etl'])], default=str))"
    )
    file = str(tmp_path / "parquet" / "shared_values.parquet")
    read = subprocess.run(
        [sys.executable, "-c", code, file],
        env={"PYTHONPATH": str(EXTRA)},
        capture_output=True,
        text=True,
        check=True,
    )
    rows, about = json.loads(read.stdout)
    shared = report.sections["shared_values"].frame
    assert [(row["value"], row["users"]) for row in rows] == list(
        shared[["value", "users"]].itertuples(index=False, name=None)
    )
    assert (about["rows"], about["key ids"], about["name"]) == ("24", "k1, k2", "shared_values")
    assert about["query"] == report.sections["shared_values"].query
    _check_workbook(tmp_path / "report.xlsx")


def _check_workbook(file: Path) -> None:
    with zipfile.ZipFile(file) as parts:
        texts = {name: parts.read(name).decode() for name in parts.namelist() if "xml" in name}
    sheets = [text for name, text in texts.items() if name.startswith("xl/worksheets/sheet")]
    assert len(sheets) == 2 + len(TITLES)
    assert not any("<f>" in sheet for sheet in sheets)
    assert "=cmd|" in texts["xl/sharedStrings.xml"]
    assert "k1, k2" in texts["xl/sharedStrings.xml"]


def test_the_page_escapes_every_value(report: Report) -> None:
    """The hostile text is in names, notes, titles, queries and cells."""
    names = {"table": HOSTILE, "notes": (HOSTILE,), "key_ids": (HOSTILE,)}
    sections = {
        name: dataclasses.replace(section, title=HOSTILE, about=HOSTILE, query=HOSTILE)
        for name, section in report.sections.items()
    }
    text = render(dataclasses.replace(report, **names, sections=sections))
    tags = _Tags()
    tags.feed(text)
    assert tags.seen["script"] == 1  # the one of the page
    assert tags.seen["img"] == 0
    assert "onerror" not in tags.attributes


def test_the_policy_of_the_page_names_the_style_and_script_that_it_holds(report: Report) -> None:
    """A browser obeys an inline text only if its hash is the one in the policy."""
    text = render(report)
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy"\s+content="([^"]*)"', text)
    hashes = {}
    for tag in ("script", "style"):
        (inline,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = hashlib.sha256(inline.encode()).digest()
        hashes[tag] = base64.b64encode(digest).decode()
    assert policy == (
        f"default-src 'none'; script-src 'sha256-{hashes['script']}'; "
        f"style-src 'sha256-{hashes['style']}'; base-uri 'none'; form-action 'none'"
    )


def test_a_template_without_one_of_its_values_is_an_error() -> None:
    """Without StrictUndefined the page would have a gap instead."""
    with pytest.raises(jinja2.UndefinedError, match="'body' is undefined"):
        fill_template("notebook.html", title="a title")


class _Tags(HTMLParser):
    """Counts elements and collects the names of attributes, as a browser reads them."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen[tag] += 1
        self.attributes |= {name for name, _ in attrs}


def test_the_page_of_an_empty_table_has_its_tables_and_no_chart_of_days(source: Source) -> None:
    """The two other charts are drawn without marks."""
    empty = build_report(source.between("2000-01-01", "2000-01-02"), Choice())
    text = render(empty)
    assert text.count("0 rows") >= len(TABLES) - 1
    assert text.count("<svg") == 2


@pytest.fixture(scope="module")
def browser(source: Source, tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """Chromium with the page that the command wrote."""
    folder = tmp_path_factory.mktemp("browser")
    done = command(source, "--html", str(folder / "report.html"))
    assert done.returncode == 0, done.stderr
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (
        "headless=new",
        "no-sandbox",
        "disable-gpu",
        "disable-quic",
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        f"user-data-dir={folder / 'profile'}",
        "window-size=1200,1600",
    ):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(executable_path=DRIVER))
    try:
        # Chromium's first tab makes requests too; they are read from the log and thrown away.
        driver.get("about:blank")
        driver.get_log("performance")
        driver.get((folder / "report.html").as_uri())
        yield driver
    finally:
        driver.quit()


@browsing
def test_the_page_loads_nothing_and_logs_no_error(browser: webdriver.Chrome) -> None:
    """Chromium makes one request, for the page itself, and the console stays empty."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [e["params"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert [params["request"]["url"] for params in sent] == [browser.current_url]
    assert browser.get_log("browser") == []


@browsing
def test_the_policy_of_the_page_stops_an_injected_script_and_picture(
    browser: webdriver.Chrome,
) -> None:
    """Had a value got in as markup, the script would not run and the picture would not load."""
    browser.execute_script(
        "const s = document.createElement('script'); s.textContent = 'window.ran = true';"
        "document.body.append(s); const i = new Image(); i.src = 'http://127.0.0.1:9/x';"
        "document.body.append(i);"
    )
    assert browser.execute_script("return window.ran") is None
    refusals = [e["message"] for e in browser.get_log("browser")]
    assert sum("Content Security Policy" in message for message in refusals) == 2


@browsing
def test_tables_sort_by_a_click(browser: webdriver.Chrome) -> None:
    """The first click puts the largest number first, or sorts text from a to z."""
    table = browser.find_element(By.CSS_SELECTOR, "#users_with_many ~ .scroll table")
    assert _sorted(table, "values") == sorted(_cells(table, "values"), key=_number, reverse=True)
    assert _sorted(table, "values") == sorted(_cells(table, "values"), key=_number)
    assert _sorted(table, "user") == sorted(_cells(table, "user"))
    assert _head(table, "user").get_attribute("aria-sort") == "ascending"
    assert _head(table, "values").get_attribute("aria-sort") is None


def _number(text: str) -> int:
    return int(text.replace(",", ""))


def _head(table: Any, name: str) -> Any:
    return next(h for h in table.find_elements(By.TAG_NAME, "th") if h.text.startswith(name))


def _cells(table: Any, name: str) -> list[str]:
    heads = [head.text.split()[0] for head in table.find_elements(By.TAG_NAME, "th")]
    rows = table.find_elements(By.CSS_SELECTOR, "tbody tr")
    return [row.find_elements(By.TAG_NAME, "td")[heads.index(name)].text for row in rows]


def _sorted(table: Any, name: str) -> list[str]:
    _head(table, name).find_element(By.TAG_NAME, "button").click()
    return _cells(table, name)


@browsing
def test_the_plots_are_drawn(browser: webdriver.Chrome) -> None:
    """There are three, and each has marks, and labels that do not leave the picture."""
    plots = browser.find_elements(By.CSS_SELECTOR, "figure svg")
    assert len(plots) == 3
    for plot in plots:
        assert plot.find_elements(By.CSS_SELECTOR, "circle, rect, polygon")
        left = plot.rect["x"]
        right = left + plot.rect["width"]
        for text in plot.find_elements(By.TAG_NAME, "text"):
            assert text.rect["x"] >= left - 1, text.text
            assert text.rect["x"] + text.rect["width"] <= right + 1, text.text


@browsing
def test_the_page_fits_a_phone(browser: webdriver.Chrome) -> None:
    """Only the tables are wider, and each scrolls inside the page."""
    size = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    assert browser.execute_script("return document.documentElement.scrollWidth") == 390
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@browsing
def test_a_click_shows_all_of_a_token(browser: webdriver.Chrome) -> None:
    folded = browser.find_element(By.CSS_SELECTOR, "#shared_values ~ .scroll .token")
    full = folded.find_element(By.CSS_SELECTOR, ":scope > code")
    assert not full.is_displayed()
    folded.find_element(By.TAG_NAME, "summary").click()
    assert full.is_displayed()
    assert full.text == token(0)


@browsing
def test_light_and_dark_and_print_differ(browser: webdriver.Chrome) -> None:
    """The page follows the system's colour scheme, and leaves folded parts out on paper."""
    colours = set()
    for scheme in ("light", "dark"):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        colours.add(
            browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        )
    assert len(colours) == 2
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": []})
    closed = browser.find_elements(By.CSS_SELECTOR, "details.closed")
    assert closed
    assert not any(part.is_displayed() for part in closed)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_report_that_is_interrupted_ends_on_the_server_too(
    job: Job, number: signal.Signals
) -> None:
    """A server that has no rows to send yet does not notice that nobody waits for them."""
    make_tables(job)
    with session(job.environment["DATABASE_URL"]) as other:
        other.cursor().execute("lock table user_logins in access exclusive mode")
        with job.start("report", "duplicates") as process:
            until(lambda: held_sessions(job))
            process.send_signal(number)
            _, err = process.communicate(timeout=60)
        until(lambda: not held_sessions(job))
    assert (process.returncode, err) == (128 + number, "")
