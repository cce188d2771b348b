"""One exception tree; every message says what was got, what was expected and what to do.

::

    CatalogPipelineError
    ├── ConfigurationError        a settings file, a flag or a card is wrong
    │   ├── BaseModelError        the base model cannot be opened or does not fit
    │   └── CertificateError      what pictures are signed with cannot be used
    ├── CatalogError              the product folders cannot be trusted
    │   ├── InvalidSkuError       a folder name that cannot be a SKU key
    │   ├── EmptyListingError     a listing that would retire the whole catalog
    │   └── PhotoSetError         too few usable photos, or a file that changed meanwhile
    │       └── UnsettledError    the set is still being uploaded
    ├── LearningError             a concept could not be learned
    │   └── QualityGateError      the candidate was learned, but is not good enough
    ├── PromptError               a prompt that the base's text encoder cannot read whole
    ├── GenerationError           a plan or a render job is wrong
    ├── AlertError                a channel did not take a message
    └── StoreError                an object, version or manifest cannot be read or written
        ├── AccessDeniedError     these rights do not reach so far
        ├── KeyringError          the master key cannot be had, or does not open the keyring
        ├── ObjectNotFoundError   no such key
        │   └── KeyDestroyedError encrypted under a data key that is no more
        ├── ConflictError         compare-and-swap lost against another writer
        ├── IntegrityError        bytes do not match their hash
        ├── LockTimeoutError      another process holds the collection
        ├── StorageFullError      the disk, the quota or the bucket is full
        └── AuditError            the audit log did not take an entry
"""

from __future__ import annotations

from collections.abc import Mapping


class CatalogPipelineError(Exception):
    """Root of everything the project raises on purpose."""


class ConfigurationError(CatalogPipelineError):
    """A settings file, a command-line flag or a product card is wrong."""


class BaseModelError(ConfigurationError):
    """The base model cannot be opened, or is not a Stable-Diffusion-family folder."""


class CertificateError(ConfigurationError):
    """The certificate that pictures are signed with, or its key, cannot be used."""


class CatalogError(CatalogPipelineError):
    """The product folders cannot be trusted as they are."""


class InvalidSkuError(CatalogError):
    """A folder name that cannot be used as a SKU key."""


class EmptyListingError(CatalogError):
    """The catalog listing is empty although SKUs are known: probably an unmounted share."""


class PhotoSetError(CatalogError):
    """A photo set has too few usable photos, or changed while it was read."""


class UnsettledError(PhotoSetError):
    """A photo set is still being uploaded: nothing is known of its photos yet."""


class LearningError(CatalogPipelineError):
    """A concept could not be learned."""


class QualityGateError(LearningError):
    """A candidate was learned but must not be promoted.

    ``picture_png`` shows why and ``figures`` say by how much, where the gate got so far.
    """

    def __init__(
        self,
        message: str,
        *,
        picture_png: bytes = b"",
        figures: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(message)
        self.picture_png = picture_png
        self.figures = dict(figures or {})


class PromptError(CatalogPipelineError):
    """A prompt is longer than the base's text encoder reads, or names an unknown token."""


class GenerationError(CatalogPipelineError):
    """A plan or a render job is wrong."""


class AlertError(CatalogPipelineError):
    """A log, a webhook or a mail server did not take a message."""


class StoreError(CatalogPipelineError):
    """An object, a version or a manifest cannot be read or written."""


class AccessDeniedError(StoreError):
    """The rights of this process do not reach an object."""


class KeyringError(StoreError):
    """The master key cannot be had, or does not open the keyring."""


class ObjectNotFoundError(StoreError):
    """No object is stored under the key."""


class KeyDestroyedError(ObjectNotFoundError):
    """An object is encrypted under a data key that is no more: what it held is gone."""


class ConflictError(StoreError):
    """A compare-and-swap lost against another writer."""


class IntegrityError(StoreError):
    """Stored bytes do not match their recorded hash."""


class LockTimeoutError(StoreError):
    """Another process holds the lock of a collection for longer than the caller waits."""


class StorageFullError(StoreError):
    """There is no room for an object: the disk, a quota or the bucket is full."""


class AuditError(StoreError):
    """The audit log did not take an entry; what it was to tell of is done, and stays."""
