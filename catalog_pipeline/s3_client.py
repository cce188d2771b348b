"""The one boto3 client: how a bucket is reached, of photos and of a home alike."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.settings import S3Settings

_FAR_AHEAD = datetime(9999, 1, 1, tzinfo=UTC)


def open_s3_client(s3: S3Settings, named_in: str, *, retries: Any) -> Any:
    """A client of ``s3`` that has sent nothing yet; ``retries`` as botocore's ``Config`` takes it.

    Credentials come from the usual boto3 chain (environment, profile, instance role).

    Raises:
        ConfigurationError: boto3 is not installed, or ``s3`` cannot be used; tells of the
            settings file ``named_in``.
    """
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError
        from botocore.session import Session
    except ImportError as error:
        raise ConfigurationError(
            f"{named_in} names an S3 bucket, but boto3 is not installed; install "
            "catalog-pipeline[s3]"
        ) from error
    config = Config(
        connect_timeout=5,
        read_timeout=60,
        max_pool_connections=16,
        retries=retries,
        s3={"addressing_style": "path" if s3.endpoint_url else "auto"},
    )
    # A session of its own: the default one keeps the credentials it saw first.
    session = Session()
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_moment)
    try:
        return boto3.Session(botocore_session=session).client(
            "s3", endpoint_url=s3.endpoint_url, region_name=s3.region, config=config
        )
    except (BotoCoreError, ValueError) as error:
        raise ConfigurationError(f"{named_in}: s3 cannot be used: {error}") from error


def _moment(value: Any) -> datetime:
    """A date of an answer; one that no calendar knows must not spoil the whole listing.

    It counts as far ahead: nothing is cleaned up for its age, and a photo set is dated by when it
    was first seen.
    """
    from botocore.utils import parse_timestamp

    try:
        moment: datetime = parse_timestamp(value).astimezone(UTC)
    except (ValueError, OverflowError):
        return _FAR_AHEAD
    return moment
