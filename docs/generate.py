"""Write the parts of README.md that are made from the code, as ``make docs`` does."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic_core import PydanticUndefined

from etl.config import Settings

README = Path(__file__).resolve().parents[1] / "README.md"


def settings_table() -> str:
    """Make the table of all settings: key, variable, default, meaning."""
    lines = ["| setting | variable | default | meaning |", "|---|---|---|---|"]
    for section, field in Settings.model_fields.items():
        model = field.annotation
        for name, key in model.model_fields.items():  # type: ignore[union-attr]
            if (section, name) in {("database", "url"), ("table", "columns")}:
                continue
            name = key.alias or name  # noqa: PLW2901
            default = "" if key.default in (None, PydanticUndefined) else f"`{key.default}`"
            variable = f"`ETL_{section}__{name}`".upper()
            lines.append(f"| `{section}.{name}` | {variable} | {default} | {key.description} |")
    return "\n".join(lines)


def put(text: str, name: str, part: str) -> str:
    """Put a part between its two markers."""
    pattern = rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)"
    return re.sub(pattern, lambda m: f"{m[1]}{part}\n{m[2]}", text, flags=re.DOTALL)


if __name__ == "__main__":
    README.write_text(put(README.read_text(), "settings", settings_table()))
