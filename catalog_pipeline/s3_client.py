"""Every boto3 client: how a bucket is reached, of photos and of a home alike, and a key service."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cache
from ssl import SSLEOFError
from typing import Any
from urllib.parse import urlsplit

from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.settings import S3Settings

_FAR_AHEAD = datetime(9999, 1, 1, tzinfo=UTC)
_MOST_SKEW = timedelta(minutes=5)
"""Clocks further apart are told of; servers refuse what is signed 15 minutes off."""


def open_s3_client(s3: S3Settings, named_in: str, *, retries: Any) -> Any:
    """A client of ``s3`` that has sent nothing yet; ``retries`` as botocore's ``Config`` takes it.

    Credentials come from the usual boto3 chain (environment, profile, instance role).

    Raises:
        ConfigurationError: boto3 is not installed, or ``s3`` cannot be used; tells of the
            settings file ``named_in``.
    """
    _require_boto3(f"{named_in} names an S3 bucket, but boto3 is not installed")
    _check_endpoint(s3, named_in)
    return _open(
        "s3",
        f"{named_in}: s3",
        {"endpoint_url": s3.endpoint_url, "region_name": s3.region},
        max_pool_connections=16,
        retries=retries,
        s3={"addressing_style": "path" if s3.endpoint_url else "auto"},
        # By default a body goes out over HTTPS in chunks without a length, a checksum behind
        # them, which many servers refuse. The stores send Content-MD5 and check what they read.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )


def open_kms_client(key_id: str, named_in: str) -> Any:
    """A client of the key service that holds ``key_id``, which has sent nothing yet.

    Credentials come from the usual boto3 chain, and so do the region, where ``key_id`` is no ARN
    that names it, and another server's address (``AWS_ENDPOINT_URL_KMS``).

    Raises:
        ConfigurationError: boto3 is not installed, or no region is known; tells of ``named_in``.
    """
    _require_boto3(f"{named_in} names a key service, but boto3 is not installed")
    arn = key_id.split(":")
    region = arn[3] if len(arn) > 5 and arn[0] == "arn" else None
    return _open("kms", named_in, {"region_name": region}, retries={"mode": "standard"})


def _require_boto3(complaint: str) -> None:
    try:
        import boto3  # noqa: F401
    except ImportError as error:
        raise ConfigurationError(f"{complaint}; install catalog-pipeline[s3]") from error


def _open(service: str, named_in: str, place: Mapping[str, Any], **config: Any) -> Any:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError
    from botocore.session import Session

    # At the finest level it logs the headers of requests, session tokens among them.
    logging.getLogger("botocore").setLevel(logging.INFO)
    # A session of its own: the default one keeps the credentials it saw first.
    session = Session()
    session.register_component("data_loader", _loader())
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_moment)
    settings = Config(connect_timeout=5, read_timeout=60, **config)
    try:
        client: Any = boto3.Session(botocore_session=session).client  # has a type a service
        return client(service, config=settings, **place)
    except (BotoCoreError, ValueError) as error:
        raise ConfigurationError(f"{named_in} cannot be used: {error}") from error


@cache
def _loader() -> Any:
    """Of the descriptions of services, which take most of the time in which a client is made."""
    from botocore.session import Session

    return Session().get_component("data_loader")


def _moment(value: Any) -> datetime:
    """A date of an answer; one that no calendar knows must not spoil the whole listing.

    It counts as far ahead: nothing is cleaned up for its age, and a photo set is dated by when it
    was first seen.
    """
    from botocore.utils import parse_timestamp

    if isinstance(value, str) and value[10:11] == "T":
        # As listings have it; the parser of every kind of date takes many times as long.
        with suppress(ValueError, OverflowError):
            return datetime.fromisoformat(value).astimezone(UTC)
    try:
        moment: datetime = parse_timestamp(value).astimezone(UTC)
    except (ValueError, OverflowError):
        return _FAR_AHEAD
    return moment


def _check_endpoint(s3: S3Settings, named_in: str) -> None:
    """Refuse an address that is none, or that botocore would add the bucket to a second time."""
    if s3.endpoint_url is None:
        return
    parts = urlsplit(s3.endpoint_url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ConfigurationError(
            f"{named_in}: s3.endpoint_url is {s3.endpoint_url!r}; expected an address such as "
            "https://s3.example.com:9000"
        )
    if parts.path.strip("/").split("/")[-1] == s3.bucket:
        raise ConfigurationError(
            f"{named_in}: s3.endpoint_url {s3.endpoint_url!r} ends in the bucket; expected the "
            f"server's address alone, and {s3.bucket!r} in s3.bucket"
        )


def advice(error: Any) -> str:
    """What a person can do about ``error``, a request that botocore gave up."""
    from botocore.exceptions import SSLError

    if isinstance(error, SSLError) and not is_cut_off(error):
        bundle = os.environ.get("AWS_CA_BUNDLE")
        return (
            "check that s3.endpoint_url names the server as its certificate does, and that "
            "AWS_CA_BUNDLE names the file of the authority that signed it"
            f" ({f'it is {bundle!r}' if bundle else 'it is not set'})"
        )
    response = getattr(error, "response", None) or {}
    code = str(response.get("Error", {}).get("Code", ""))
    answer = response.get("ResponseMetadata", {})
    refused = answer.get("HTTPStatusCode") == 403
    skew = _skew(answer.get("HTTPHeaders", {}).get("date", "")) if refused else timedelta()
    if code == "RequestTimeTooSkewed" or skew > _MOST_SKEW:
        return (
            f"this machine's clock is {skew / timedelta(minutes=1):.0f} minutes from the "
            "server's; set it right"
        )
    if code in {"AuthorizationHeaderMalformed", "PermanentRedirect", "301"}:
        return "check that s3.region is the bucket's region"
    if code in {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"}:
        return "the credentials have expired: renew them, AWS_SESSION_TOKEN among them"
    if refused or code in {"InvalidToken", "InvalidAccessKeyId", "SignatureDoesNotMatch"}:
        return "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the bucket's policy"
    return "check the endpoint, the bucket, the network and the credentials"


def is_cut_off(error: Any) -> bool:
    """Whether the connection ended in the midst of TLS, which botocore takes for a wrong TLS."""
    from botocore.exceptions import SSLError

    cause = error.kwargs["error"] if isinstance(error, SSLError) else None
    return any(isinstance(inner, SSLEOFError) for inner in (cause, *getattr(cause, "args", ())))


def _skew(date: str) -> timedelta:
    """How far this machine's clock is from the time that the server wrote into its answer."""
    try:
        return abs(datetime.now(UTC) - parsedate_to_datetime(date))
    except (TypeError, ValueError):
        return timedelta()
