"""Whether and how a column is masked."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from etl.config.section import Section

# Each has one text for equal values. A boolean is not among them: of two tokens, anybody can tell
# which is which.
MASKABLE = ("text", "ip", "smallint", "integer", "bigint", "decimal", "uuid", "date")
# Where the last characters are not the part that says least.
NO_LAST_CHARACTERS = ("ip", "date")

HIDDEN = "****"  # of any number of characters


class ColumnMasking(Section):
    """What keeps a column's plain values from the database."""

    mask: bool | Literal["hmac", "partial"] = Field(
        False,
        description="personal data: true (or siv): only a token reaches the database, and the "
        "keyring recovers the value; hmac: a token from which nothing does; partial: asterisks and "
        "a part of the value",
    )
    context: str | None = Field(
        None,
        description="masking context, by default the first name of the field; in columns that "
        "share one, equal values share a token",
    )
    keep_last: int | None = Field(
        None,
        ge=1,
        le=8,
        description="mask partial: show the last N characters, of values that have at least twice "
        "as many, and 4 more than N",
    )
    keep_domain: bool = Field(
        False, description="mask partial: show the domain of an e-mail address"
    )

    @field_validator("mask", mode="before")
    @classmethod
    def _read_mask(cls, mask: Any) -> Any:
        mask = True if mask == "siv" else mask
        if mask not in (True, False, "hmac", "partial"):
            raise ValueError("must be true, false, siv, hmac or partial")
        return mask

    @model_validator(mode="after")
    def _check_part(self) -> Self:
        parts = (self.keep_last is not None) + self.keep_domain
        if self.mask == "partial" and parts != 1:
            raise ValueError("with 'mask: partial' needs 'keep_last' or 'keep_domain: true'")
        if self.mask != "partial" and parts:
            raise ValueError("has 'keep_last' or 'keep_domain', which only 'mask: partial' has")
        return self

    @property
    def is_recoverable(self) -> bool:
        """Whether it holds tokens that the keyring opens."""
        return self.mask is True

    @property
    def is_one_way(self) -> bool:
        """Whether it holds tokens that nothing opens."""
        return self.mask == "hmac"

    @property
    def has_tokens(self) -> bool:
        """Whether it holds tokens, which are equal for equal values."""
        return self.is_recoverable or self.is_one_way

    @property
    def mask_kind(self) -> str:
        """The kind of its mask: ``siv``, ``hmac`` or ``partial``; empty if it has none."""
        return "siv" if self.mask is True else self.mask or ""
