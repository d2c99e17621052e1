"""Settings from config.yaml and the environment, as frozen models.

There are four sources, and each overrides the one before it: the defaults in this package, the
configuration file, ``ETL_SECTION__KEY`` variables, and the command line. An unknown key in any of
them is an error that names it. Secrets come only from the environment (``DATABASE_URL``,
``ETL_KEYRING*``, the AWS variables) and never show in a repr.
"""

from etl.config.chosen_table import one_table
from etl.config.column import Column
from etl.config.column_masking import HIDDEN, MASKABLE
from etl.config.column_reading import Network
from etl.config.column_type import TIMES
from etl.config.envelopes import (
    Layer,
    PathLayer,
    PathSplit,
    is_attribute,
    mark_attribute,
    marked,
    overlap,
)
from etl.config.hidden import is_within, place
from etl.config.messages import (
    BatchSettings,
    EventSettings,
    LedgerSettings,
    LoadSettings,
    QuarantineSettings,
    QueueSettings,
)
from etl.config.paths import Path as EventPath
from etl.config.paths import parse as parse_path
from etl.config.paths import written as written_path
from etl.config.program import (
    DatabaseSettings,
    JobSettings,
    LogSettings,
    MetricsSettings,
    ReportSettings,
    RunSettings,
    TokenMaker,
    UnmaskSettings,
)
from etl.config.routes import RoutedTable, Routes
from etl.config.section import FIELDS_OF_THE_JOB
from etl.config.settings import MASKED_MESSAGE, MASKED_NOTIFICATION, Settings
from etl.config.sources import load
from etl.config.table import Table, quoted_if_needed
from etl.config.table_checks import BatchCheck, RowCheck, TableChecks

__all__ = [
    "FIELDS_OF_THE_JOB",
    "HIDDEN",
    "MASKABLE",
    "MASKED_MESSAGE",
    "MASKED_NOTIFICATION",
    "TIMES",
    "BatchCheck",
    "BatchSettings",
    "Column",
    "DatabaseSettings",
    "EventPath",
    "EventSettings",
    "JobSettings",
    "Layer",
    "LedgerSettings",
    "LoadSettings",
    "LogSettings",
    "MetricsSettings",
    "Network",
    "PathLayer",
    "PathSplit",
    "QuarantineSettings",
    "QueueSettings",
    "ReportSettings",
    "RoutedTable",
    "Routes",
    "RowCheck",
    "RunSettings",
    "Settings",
    "Table",
    "TableChecks",
    "TokenMaker",
    "UnmaskSettings",
    "is_attribute",
    "is_within",
    "load",
    "mark_attribute",
    "marked",
    "one_table",
    "overlap",
    "parse_path",
    "place",
    "quoted_if_needed",
    "written_path",
]
