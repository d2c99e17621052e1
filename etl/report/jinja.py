"""The pages are made from the Jinja2 templates in ``etl/report/templates/``."""

from __future__ import annotations

from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from etl.logs import visible


def fill_template(name: str, **values: Any) -> str:
    """Fill a template; Jinja escapes every value that is not a :class:`markupsafe.Markup`."""
    environment = Environment(
        loader=PackageLoader("etl.report"),
        autoescape=True,
        finalize=_finalized,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(name).render(values)


def _finalized(value: Any) -> Any:
    """Show as an escape what would move other text of the page, such as a direction mark."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return visible(value, keep="\n\t")


def read_verbatim(name: str) -> Markup:
    """Read a stylesheet or script of ours, for a page to embed unescaped.

    A browser compares the hash of the embedded text with the one in the page's policy, so not one
    character may change.
    """
    text = resources.files("etl.report").joinpath("templates", name).read_text(encoding="utf-8")
    return Markup(text)  # noqa: S704  (a file of the package)
