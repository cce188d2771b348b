"""One home: its settings, its stores and its photos, opened once and passed to every workflow."""

from __future__ import annotations

import unicodedata
from functools import cached_property
from pathlib import Path

from catalog_pipeline.base_model import EMBEDDED_WEIGHTS
from catalog_pipeline.catalog.sources import PhotoSource, open_photo_source
from catalog_pipeline.diffusion.sizes import read_own_side
from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.settings import Settings
from catalog_pipeline.stores.adapters import AdapterStore, collection_names
from catalog_pipeline.stores.archive import ImageArchive
from catalog_pipeline.stores.audit_log import AuditLog, Signature, default_actor
from catalog_pipeline.stores.columns import MANIFEST_SCHEMA
from catalog_pipeline.stores.index import IndexStore
from catalog_pipeline.stores.keyring import Keyring
from catalog_pipeline.stores.learning_log import LearningLog
from catalog_pipeline.stores.local import LocalObjectStore
from catalog_pipeline.stores.master_key import open_master_key
from catalog_pipeline.stores.objects import ObjectStore
from catalog_pipeline.stores.s3 import S3ObjectStore
from catalog_pipeline.stores.sealed import SealedObjectStore
from catalog_pipeline.stores.wrapping_keys import without_keyring
from catalog_pipeline.workflows.picture_marks import PictureMarks
from catalog_pipeline.workflows.scene_words import in_english
from catalog_pipeline.workflows.words import Words


class Home:
    """Everything under ``settings.home``, or in the bucket of ``archive.yaml: s3``.

    A command or a step opens one and hands it down. Stores and photo source are opened
    when they are first asked for, once each; asking for them may raise
    :class:`ConfigurationError`, as where a bucket is set and boto3 is not installed, or
    where the folder's path is one that readers of Parquet misread.
    """

    def __init__(self, settings: Settings, *, run: str = "") -> None:
        """``run``: the scheduler's run that it is opened in, for the audit log."""
        self.run = run
        self.written = with_own_size(with_attention(settings))
        """The settings as they were typed; :attr:`settings` is what the base reads."""
        self._adapters: dict[str, AdapterStore] = {}

    @cached_property
    def settings(self) -> Settings:
        """The settings, scenes and negative prompts in the English that the base reads."""
        return in_english(self.written, self.words)

    @cached_property
    def words(self) -> Words:
        """Reads other languages than English."""
        return Words(self.written, lambda: self.objects)

    @cached_property
    def backend(self) -> ObjectStore:
        """What keeps the bytes: a bucket where one is set, else the folder of the home."""
        bucket = self.written.archive.s3
        if bucket is not None:
            return S3ObjectStore(bucket)
        check_home_path(self.written.home)
        return LocalObjectStore(self.written.home)

    @cached_property
    def keyring(self) -> Keyring | None:
        """The data keys of products; ``None`` where nothing is encrypted."""
        master_key = self.written.governance.encryption.master_key
        return None if master_key is None else Keyring(self.backend, open_master_key(master_key))

    @cached_property
    def objects(self) -> ObjectStore:
        """Where all state is kept.

        Raises:
            KeyringError: the master key is not there or is another one, or the home is encrypted
                and the settings name none.
            StoreError: whether it is encrypted cannot be found out now.
        """
        if self.keyring is None:
            return without_keyring(self.backend)
        self.keyring.open()
        pictures = self.written.governance.encryption.pictures
        return SealedObjectStore(self.backend, self.keyring, pictures=pictures)

    @property
    def where(self) -> str:
        """The folder or the bucket, for people."""
        return self.backend.uri("catalog").removesuffix("/catalog")

    @cached_property
    def index(self) -> IndexStore:
        """The catalog index."""
        return IndexStore(self.objects)

    @cached_property
    def learning_log(self) -> LearningLog:
        """What was learned when, and what was refused."""
        return LearningLog(self.objects)

    @cached_property
    def audit(self) -> AuditLog:
        """Who did what, when and with which version."""
        return AuditLog(self.objects, self.signature)

    @property
    def signature(self) -> Signature:
        """Who acts."""
        return Signature(default_actor(), self.run)

    @cached_property
    def archive(self) -> ImageArchive:
        """Pictures and manifests."""
        return ImageArchive(self.objects)

    @cached_property
    def marks(self) -> PictureMarks:
        """What pictures are to say of how they were made."""
        return PictureMarks(self.written)

    @cached_property
    def photo_source(self) -> PhotoSource:
        """The product folders that ``catalogs.yaml`` names."""
        return open_photo_source(self.written)

    def adapters(self, collection: str) -> AdapterStore:
        """The versions of ``collection``; it need not exist yet."""
        if collection not in self._adapters:
            self._adapters[collection] = AdapterStore(self.objects, collection)
        return self._adapters[collection]

    def collections(self) -> list[str]:
        """Every collection that has anything stored, sorted."""
        return collection_names(self.objects)


def with_attention(settings: Settings) -> Settings:
    """``settings`` with ``attention.method: auto`` off for bases on which it was not measured."""
    generation = settings.generation
    if generation.attention.method != "auto" or settings.base_model.base_model == "embedded":
        return settings
    off = generation.attention.model_copy(update={"method": "none"})
    return settings.model_copy(
        update={"generation": generation.model_copy(update={"attention": off})}
    )


def with_own_size(settings: Settings) -> Settings:
    """``settings`` with the base's own side for a width or a height of 0.

    As they are where the base cannot be read: whatever needs it says why.
    """
    generation, base = settings.generation, settings.base_model.base_model
    unset = [name for name in ("width", "height") if not getattr(generation, name)]
    if not unset:
        return settings
    own = read_own_side(EMBEDDED_WEIGHTS if base == "embedded" else Path(base).expanduser())
    if own is None:
        return settings
    sized = generation.model_copy(update=dict.fromkeys(unset, own))
    return settings.model_copy(update={"generation": sized})


def open_home(settings: Settings, *, run: str = "") -> Home:
    """The home of ``settings``; opens, reads and writes nothing yet."""
    return Home(settings, run=run)


def check_home_path(home: Path) -> None:
    """Refuse a home whose path other programs read as something else than a path.

    Raises:
        ConfigurationError: it holds a backslash, which DuckDB cannot be told to take as it
            is, a line break or another control character, bytes that are no text, or a folder
            such as ``day=2026``, which readers take for a column of the manifest.
    """
    columns = {"dt", *MANIFEST_SCHEMA.names}
    pairs = [part for part in home.parts if "=" in part]
    taken = [part for part in pairs if part.partition("=")[0].lower() in columns]
    problem = ""
    if "\\" in str(home):
        problem = "holds a backslash, which DuckDB does not find"
    elif any(unicodedata.category(letter) in ("Cc", "Cs") for letter in str(home)):
        problem = "holds a control character or bytes that are no UTF-8"
    elif taken:
        problem = f"lies below {taken[0]!r}, which readers of Parquet take for a column"
    if problem:
        raise ConfigurationError(f"the home {str(home)!r} {problem}; rename or choose another")
