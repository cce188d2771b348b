"""What the settings of every room are made of: bounded values, and a bucket."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

LARGEST = 1_000_000
"""What a number may be, either side of zero, where its field sets no upper bound of its own."""

YEAR_SECONDS = 366 * 24 * 3600
LARGEST_SEED = 2**63 - 1


def not_blank(value: Any) -> Any:
    """``value`` when its text is not blank and not of a user who does not exist."""
    if not str(value).strip():
        raise ValueError("is blank; write a value, or leave the key out for its default")
    try:
        Path(str(value)).expanduser()
    except RuntimeError as error:
        raise ValueError("begins with ~, but there is no such user; write the path out") from error
    return value


class SecretValueError(ValueError):
    """A wrong value that holds a secret, or may hold one: no message shows it."""


def without_login(address: str) -> str:
    """``address`` when it has no user name and no password in it."""
    try:
        parts = urlsplit(address)
        login = parts.username is not None or parts.password is not None
    except ValueError:
        login = "@" in address
    if login:
        raise SecretValueError("holds a user name or a password; secrets belong in the environment")
    return address


Weight = Annotated[float, Field(ge=0, le=LARGEST)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
Seed = Annotated[int, Field(ge=-LARGEST_SEED, le=LARGEST_SEED)]
NotBlank = Annotated[str, AfterValidator(not_blank)]


def _plain_prompt(text: str) -> str:
    if found := re.search(r"<[^<>\s]*:\d+>", text):
        raise ValueError(f"holds {found[0]!r}, which is how prompts name a product; write words")
    return text


def without_braces(text: str) -> str:
    """``text`` when it has none of the braces that stand for the product in a prompt."""
    if set(text) & set("{}"):
        raise ValueError("holds { or }, which stand for the product in training prompts; use words")
    return text


def _picture_side(side: int) -> int:
    if side % 8 or 0 < side < 16:
        raise ValueError("expected 0, or a multiple of 8 from 16 on")
    return side


PictureSide = Annotated[int, Field(ge=0, le=16384), AfterValidator(_picture_side)]
"""Pixels; 0 = the side that the base was trained at."""
PromptText = Annotated[str, AfterValidator(_plain_prompt)]
"""A piece of a prompt; how long it may be depends on the base, and is asked when it is used."""


class Strict(BaseModel):
    """Unknown keys are errors, values do not change, and numbers are bounded."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True
    )

    @field_validator("*")
    @classmethod
    def _is_bounded(cls, value: Any, info: ValidationInfo) -> Any:
        field = cls.model_fields[str(info.field_name)]
        own = any(getattr(bound, "le", getattr(bound, "lt", None)) for bound in field.metadata)
        if isinstance(value, int | float) and not own and abs(value) > LARGEST:
            raise ValueError(f"expected a number of at most {LARGEST:,}")
        return value


class S3Settings(Strict):
    """Where an S3 bucket is; credentials come from the usual boto3 chain."""

    bucket: NotBlank = Field(description="name of the bucket")
    prefix: str = Field("", description="what stands in front of every key, such as prod/")
    endpoint_url: Annotated[NotBlank, AfterValidator(without_login)] | None = Field(
        None, description="of an S3-compatible server; null = Amazon's"
    )
    region: NotBlank | None = Field(None, description="null = that of the boto3 chain")
