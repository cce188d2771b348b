"""How an object is stored encrypted: AES-256-GCM under a content key, which data keys unlock.

::

    magic                8 bytes  b"\\x8bCPSEAL\\n"
    version              1        1
    recipients           2        n, big-endian, at least one
    of each recipient:
        data keys        2        m, big-endian, at least one
        m references     24 each  key id (16) and generation (8), ascending
        content key      40       wrapped by AES key wrap (RFC 3394)
    nonce                12
    check                8        of the SHA-256 over all before it
    ciphertext and tag   the plain bytes and 16 more

A recipient unlocks with *all* of its data keys: the wrapping key is HKDF-SHA256 over them in the
order of the references, with the nonce for a salt, so that the loss of one locks a picture of two
products for good. *Any* recipient is enough: bytes that two products happen to share stay
readable while one of them is.

The header and the object's key are authenticated: an object that is copied under another key, or
whose header is edited, does not open. The check tells a header that has rotted from one whose
data keys were destroyed; it protects against nobody. The content key is random and of one object,
so no nonce can ever repeat under it.
"""

from __future__ import annotations

import hashlib
import secrets
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from catalog_pipeline.errors import IntegrityError, KeyDestroyedError, StoreError

MAGIC = b"\x8bCPSEAL\n"
SEAL_VERSION = 1
KEY_BYTES = 32
ID_BYTES = 16
GENERATION_BYTES = 8
LONGEST_BYTES = 2**31 - 1 - 16
"""What AES-GCM takes in one message of this implementation: 2 GiB."""

_REFERENCE_BYTES = ID_BYTES + GENERATION_BYTES
_WRAPPED_BYTES = KEY_BYTES + 8
_NONCE_BYTES = 12
_TAG_BYTES = 16
_CHECK_BYTES = 8
_COUNTS = struct.Struct(">BH")
_KEY_COUNT = struct.Struct(">H")
_PURPOSE = b"catalog-pipeline content key 1\x00"


@dataclass(frozen=True, order=True)
class KeyReference:
    """Which data key, without the key: the id says whose, the generation which of theirs."""

    key_id: bytes
    generation: bytes

    def __bytes__(self) -> bytes:
        return self.key_id + self.generation


@dataclass(frozen=True)
class DataKey:
    """A key of 32 bytes, and what sealed objects call it."""

    reference: KeyReference
    secret: bytes = field(repr=False)


Recipient = Sequence[DataKey]
"""Data keys that unlock an object together."""


@dataclass(frozen=True)
class _Wrapped:
    references: tuple[KeyReference, ...]
    content_key: bytes


@dataclass(frozen=True)
class _Header:
    """What stands before the ciphertext, ``length`` bytes; ``authenticated`` ends at the nonce."""

    recipients: tuple[_Wrapped, ...]
    authenticated: bytes
    nonce: bytes
    length: int


def seal(
    data: bytes,
    recipients: Sequence[Recipient],
    object_key: str,
    *,
    random: Callable[[int], bytes] = secrets.token_bytes,
) -> bytes:
    """``data`` encrypted for ``recipients``, to be stored for ``object_key``.

    Args:
        data: up to 2 GiB.
        recipients: at least one, each of at least one data key.
        object_key: the logical key, which is authenticated.
        random: gives so many random bytes; first the content key, then the nonce.

    Raises:
        StoreError: ``data`` is too long.
    """
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.keywrap import aes_key_wrap

    if len(data) > LONGEST_BYTES:
        raise StoreError(
            f"{object_key!r} has {len(data):,} bytes; encryption takes up to {LONGEST_BYTES:,} an "
            "object: learn with a lower adapter.rank"
        )
    content_key, nonce = random(KEY_BYTES), random(_NONCE_BYTES)
    parts = [MAGIC, _COUNTS.pack(SEAL_VERSION, len(recipients))]
    for keys in recipients:
        ordered = sorted(keys, key=lambda key: key.reference)
        wrapped = aes_key_wrap(_wrapping_key(ordered, nonce, object_key), content_key)
        parts += [_KEY_COUNT.pack(len(ordered)), *(bytes(key.reference) for key in ordered)]
        parts.append(wrapped)
    authenticated = b"".join(parts)
    message = AESGCM(content_key).encrypt(nonce, data, authenticated + object_key.encode())
    return b"".join((authenticated, nonce, _check(authenticated + nonce), message))


def unseal(
    sealed: bytes, find: Callable[[KeyReference], DataKey], object_key: str, where: str
) -> bytes:
    """The bytes that :func:`seal` was given.

    Args:
        sealed: what it returned.
        find: the data key of a reference; raises KeyDestroyedError where there is none.
        object_key: the one that it was sealed for.
        where: names the object in errors.

    Raises:
        KeyDestroyedError: of every recipient a data key is no more.
        IntegrityError: a bit differs, or it was sealed for another key.
        StoreError: written by a newer version of this program.
    """
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap

    header = _parse(sealed, where)
    recipient, keys = _unlocked(header, find, where)
    try:
        wrapping_key = _wrapping_key(keys, header.nonce, object_key)
        content_key = aes_key_unwrap(wrapping_key, recipient.content_key)
        message = memoryview(sealed)[header.length :]
        authenticated = header.authenticated + object_key.encode()
        return AESGCM(content_key).decrypt(header.nonce, message, authenticated)
    except (InvalidTag, InvalidUnwrap) as error:
        raise IntegrityError(
            f"{where} is corrupted, or was copied from another key: it does not open as "
            f"{object_key!r}; restore it from a backup, or delete it and make it again"
        ) from error


def recipients_of(sealed: bytes, where: str) -> list[tuple[KeyReference, ...]]:
    """The references of each recipient of a sealed object; nothing is decrypted.

    Raises:
        IntegrityError: it is no sealed object.
        StoreError: written by a newer version of this program.
    """
    return [recipient.references for recipient in _parse(sealed, where).recipients]


def _unlocked(
    header: _Header, find: Callable[[KeyReference], DataKey], where: str
) -> tuple[_Wrapped, list[DataKey]]:
    """The first recipient whose data keys are all there, and these."""
    destroyed: KeyDestroyedError | None = None
    for recipient in header.recipients:
        try:
            return recipient, [find(reference) for reference in recipient.references]
        except KeyDestroyedError as error:
            destroyed = error
    raise KeyDestroyedError(
        f"{where} cannot be read any more: {destroyed}; it was removed for good, or keys/ was not "
        "restored with it"
    ) from destroyed


def _wrapping_key(keys: Sequence[DataKey], nonce: bytes, object_key: str) -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    references = b"".join(bytes(key.reference) for key in keys)
    info = _PURPOSE + _KEY_COUNT.pack(len(keys)) + references + object_key.encode()
    derivation = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=nonce, info=info)
    return derivation.derive(b"".join(key.secret for key in keys))


def _parse(sealed: bytes, where: str) -> _Header:
    at = len(MAGIC)
    if sealed[:at] != MAGIC:
        raise IntegrityError(
            f"{where} is no encrypted object: it begins with {sealed[:at]!r}; restore it from a "
            "backup, or delete it and make it again"
        )
    try:
        version, count = _COUNTS.unpack_from(sealed, at)
        if version > SEAL_VERSION:
            raise StoreError(
                f"{where} is sealed in version {version}; this program reads up to "
                f"{SEAL_VERSION}: upgrade catalog-pipeline"
            )
        at += _COUNTS.size
        recipients = []
        for _ in range(count):
            (keys,) = _KEY_COUNT.unpack_from(sealed, at)
            at += _KEY_COUNT.size
            references = tuple(_reference(sealed, at + n * _REFERENCE_BYTES) for n in range(keys))
            at += keys * _REFERENCE_BYTES
            recipients.append(_Wrapped(references, sealed[at : at + _WRAPPED_BYTES]))
            at += _WRAPPED_BYTES
        ends = at + _NONCE_BYTES
        begins = ends + _CHECK_BYTES
        if len(sealed) < begins + _TAG_BYTES or not recipients:
            raise ValueError("it is cut off")
        if sealed[ends:begins] != _check(sealed[:ends]):
            raise ValueError("its check differs")
    except (struct.error, ValueError) as error:
        raise IntegrityError(
            f"{where} is corrupted: its head cannot be read ({error}); restore it from a backup, "
            "or delete it and make it again"
        ) from error
    return _Header(tuple(recipients), sealed[:at], sealed[at:ends], begins)


def _check(head: bytes) -> bytes:
    return hashlib.sha256(head).digest()[:_CHECK_BYTES]


def _reference(sealed: bytes, at: int) -> KeyReference:
    found = sealed[at : at + _REFERENCE_BYTES]
    if len(found) < _REFERENCE_BYTES:
        raise ValueError("it is cut off")
    return KeyReference(found[:ID_BYTES], found[ID_BYTES:])
