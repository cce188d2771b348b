"""The one key above all others: of a file that only the program reads, or of a key service.

``file:/path`` names a file with 32 random bytes in hex or base64. ``kms:<id>`` names a symmetric
key of AWS KMS, or of a server that speaks its ``GenerateDataKey`` and ``Decrypt``: its id, ARN or
alias. Either only ever wraps the wrapping keys of a keyring, 32 bytes each.
"""

from __future__ import annotations

import base64
import binascii
import re
import secrets
import stat
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from catalog_pipeline.errors import ConfigurationError, IntegrityError, KeyringError
from catalog_pipeline.s3_client import open_kms_client
from catalog_pipeline.stores.sealing import KEY_BYTES

_SETTING = "governance.yaml: encryption.master_key"
_NONCE_BYTES = 12
_OTHERS = stat.S_IRWXO
_HEX = re.compile(r"[0-9a-fA-F]{64}")

Wrapped = Mapping[str, str]
"""A wrapped key as JSON has it: texts by name, each base64."""


class MasterKey(ABC):
    """Wraps keys. ``name`` tells it from every other one in a store; ``where`` is for people."""

    name: str
    where: str

    @abstractmethod
    def wrap(self, key: bytes, purpose: str) -> Wrapped:
        """``key`` so that only this master key opens it, and only for ``purpose``.

        Raises:
            KeyringError: the key service refuses, or cannot be reached.
        """

    @abstractmethod
    def unwrap(self, wrapped: Wrapped, purpose: str) -> bytes:
        """The key of :meth:`wrap`.

        Raises:
            KeyringError: the key service refuses, or cannot be reached.
            IntegrityError: ``wrapped`` was altered, or is for another purpose.
        """


class FileMasterKey(MasterKey):
    """32 bytes of a file; two files with the same bytes are one master key."""

    def __init__(self, secret: bytes, where: str) -> None:
        self._secret = _derived(secret, b"catalog-pipeline master key 1: wrap", KEY_BYTES)
        fingerprint = _derived(secret, b"catalog-pipeline master key 1: fingerprint", 8)
        self.name = f"file:{fingerprint.hex()}"
        self.where = where

    def wrap(self, key: bytes, purpose: str) -> Wrapped:
        """See :class:`MasterKey`."""
        return {"wrapped": encrypt_key(self._secret, key, purpose)}

    def unwrap(self, wrapped: Wrapped, purpose: str) -> bytes:
        """See :class:`MasterKey`."""
        return decrypt_key(self._secret, wrapped["wrapped"], purpose)


class KmsMasterKey(MasterKey):
    """A key that never leaves its service, which logs every use of it.

    ``wrap`` asks the service for a data key and wraps with that; ``unwrap`` asks it to decrypt
    the data key. The purpose is the encryption context, so the service's log shows it.
    """

    def __init__(self, key_id: str) -> None:
        self._key_id = key_id
        self.name = self.where = f"kms:{key_id}"
        self._client = open_kms_client(key_id, _SETTING)

    def wrap(self, key: bytes, purpose: str) -> Wrapped:
        """See :class:`MasterKey`."""
        answer = self._ask(
            "generate_data_key", KeySpec="AES_256", EncryptionContext=_context(purpose)
        )
        blob = base64.b64encode(answer["CiphertextBlob"]).decode()
        return {"data_key": blob, "wrapped": encrypt_key(answer["Plaintext"], key, purpose)}

    def unwrap(self, wrapped: Wrapped, purpose: str) -> bytes:
        """See :class:`MasterKey`."""
        blob = _decoded(wrapped["data_key"], purpose)
        answer = self._ask("decrypt", CiphertextBlob=blob, EncryptionContext=_context(purpose))
        return decrypt_key(answer["Plaintext"], wrapped["wrapped"], purpose)

    def _ask(self, operation: str, **request: Any) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return getattr(self._client, operation)(KeyId=self._key_id, **request)
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            words = str(error.response.get("Error", {}).get("Message", ""))
            raise KeyringError(
                f"the key service refused {operation} with {self.where} ({code}: {words}); check "
                "that the key is enabled, is the one that the keyring was made with, and that "
                "these credentials may use it for GenerateDataKey and Decrypt"
            ) from error
        except BotoCoreError as error:
            raise KeyringError(
                f"the key service of {self.where} cannot be asked: {error}; check the network, "
                "AWS_REGION (or AWS_ENDPOINT_URL_KMS) and the credentials"
            ) from error


def open_master_key(setting: str) -> MasterKey:
    """The master key that ``file:/path`` or ``kms:<id>`` names.

    What is neither may be the key itself: no error repeats it.

    Raises:
        KeyringError: the file cannot be read, is readable by everybody, or holds no key.
        ConfigurationError: the setting is neither, or a package is not installed.
    """
    require_cryptography()
    kind, _, name = setting.partition(":")
    if kind == "kms" and name:
        return KmsMasterKey(name)
    if kind != "file" or not name:
        raise ConfigurationError(
            "what names the master key is neither file:/path/of/key nor kms:alias/name; expected "
            "one of them, never the key itself"
        )
    return FileMasterKey(_read_key(Path(name)), setting)


def require_cryptography() -> None:
    """Raises ConfigurationError where the package that encrypts is not installed."""
    try:
        import cryptography  # noqa: F401
    except ImportError as error:
        raise ConfigurationError(
            f"{_SETTING} is set, but the package cryptography is not installed; install "
            "catalog-pipeline[encryption]"
        ) from error


def encrypt_key(wrapping_key: bytes, key: bytes, purpose: str) -> str:
    """``key`` by AES-256-GCM, ``purpose`` authenticated, as base64 of nonce and message."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = secrets.token_bytes(_NONCE_BYTES)
    message = AESGCM(wrapping_key).encrypt(nonce, key, purpose.encode())
    return base64.b64encode(nonce + message).decode()


def decrypt_key(wrapping_key: bytes, text: str, purpose: str) -> bytes:
    """The key of :func:`encrypt_key`; IntegrityError when it was altered."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    data = _decoded(text, purpose)
    try:
        nonce, message = data[:_NONCE_BYTES], data[_NONCE_BYTES:]
        return AESGCM(wrapping_key).decrypt(nonce, message, purpose.encode())
    except (InvalidTag, ValueError) as error:
        raise IntegrityError(
            f"the wrapped key of {purpose} is corrupted: it does not open; restore keys/ from a "
            "backup"
        ) from error


def _decoded(text: str, purpose: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise IntegrityError(
            f"the wrapped key of {purpose} is corrupted: it is not base64; restore keys/ from a "
            "backup"
        ) from error


def _context(purpose: str) -> dict[str, str]:
    return {"catalog-pipeline": purpose}


def _derived(secret: bytes, purpose: bytes, length: int) -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(algorithm=SHA256(), length=length, salt=None, info=purpose).derive(secret)


def _read_key(path: Path) -> bytes:
    """The 32 bytes of a key file; no error ever tells a byte of it."""
    file = path.expanduser()
    if not file.is_absolute():
        raise KeyringError(
            "the master key file is named by a relative path; expected an absolute one, never the "
            f"key itself; correct {_SETTING}"
        )
    try:
        mode = file.stat().st_mode
        text = file.read_bytes()[:4096].strip()
    except OSError as error:
        raise KeyringError(
            f"the master key file {file} cannot be read: {error.strerror}; bring it back, or "
            f"correct {_SETTING}; without it nothing that is encrypted can be read"
        ) from error
    if mode & _OTHERS:
        raise KeyringError(
            f"the master key file {file} has the mode {stat.S_IMODE(mode):04o}: everybody on this "
            f"machine may use it; run `chmod 600 {file}`"
        )
    key = _key_in(text.decode("ascii", errors="replace"))
    if key is None:
        raise KeyringError(
            f"the master key file {file} holds {len(text)} characters that are no key; expected "
            "32 random bytes as 64 hex digits or as base64, as `openssl rand -hex 32` prints them"
        )
    return key


def _key_in(text: str) -> bytes | None:
    if _HEX.fullmatch(text):
        return bytes.fromhex(text)
    try:
        key = base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        return None
    return key if len(key) == KEY_BYTES else None
