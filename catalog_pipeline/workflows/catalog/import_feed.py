"""Take in a product feed: a folder with photos and a card for each of its products.

Every row is checked before anything is written. The feed says what the photos and the card of a
product are; what a person added or edited in its folder stays, and is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from catalog_pipeline.catalog.card_text import encode_card
from catalog_pipeline.catalog.feeds.columns import FeedColumns, find_columns
from catalog_pipeline.catalog.feeds.photos import (
    NoSuchPhotoError,
)
from catalog_pipeline.catalog.feeds.products import FeedProduct, RowRemark, read_products
from catalog_pipeline.catalog.feeds.readers import open_feed
from catalog_pipeline.catalog.folder_changes import compare_folder
from catalog_pipeline.catalog.product_folders import (
    FolderChanges,
    FolderRefusedError,
    FolderState,
    PhotoFile,
)
from catalog_pipeline.catalog.s3_folders import S3ProductFolders
from catalog_pipeline.plain_text import shown
from catalog_pipeline.records import names_photo
from catalog_pipeline.workflows.catalog.feed_places import FeedSource, open_places
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.progress import ProgressSink, SilentProgress

__all__ = ["CheckedFeed", "FeedImport", "FeedSource", "ProductOutcome"]

LEASE_KEY = "catalog/IMPORT_LEASE.json"
_LEASE_SECONDS = 60.0
_TASK = "import"


@dataclass(frozen=True, slots=True)
class ProductOutcome:
    """What an import does with one product.

    ``status`` is ``added``, ``changed`` or ``unchanged``; ``card`` whether its card is written;
    the photos are names in its folder: ``kept`` are a person's.
    """

    row: int
    sku: str
    status: str
    card: bool = False
    added: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


@dataclass(frozen=True)
class CheckedFeed:
    """A feed beside the folders, before anything is written.

    ``changes`` has the products with something to write, ``outcomes`` all good ones, in the order
    of the feed; ``wrong`` rows are not imported.
    """

    columns: FeedColumns
    outcomes: tuple[ProductOutcome, ...]
    changes: Mapping[str, FolderChanges]
    wrong: tuple[RowRemark, ...]
    warnings: tuple[RowRemark, ...]
    notes: tuple[str, ...] = ()


class FeedImport:
    """One import: :meth:`check` looks, :meth:`write` writes.

    Args:
        home: whose watched folder or bucket.
        source: the feed.
        overwrite_cards: replace cards that a person wrote or edited, too.

    Raises:
        ConfigurationError: ``source.photos`` is no place from which photos can be taken.
        CatalogError: there is no watched folder.
    """

    def __init__(self, home: Home, source: FeedSource, *, overwrite_cards: bool = False) -> None:
        self.home = home
        self.source = source
        self.overwrite_cards = overwrite_cards
        self.folders, self.finder = open_places(home, source)

    def close(self) -> None:
        """Close the connections to a bucket."""
        if isinstance(self.folders, S3ProductFolders):
            self.folders.close()

    def check(self, progress: ProgressSink | None = None) -> CheckedFeed:
        """Read every row, find every photo, compare with every folder; writes nothing.

        Raises:
            ConfigurationError: the feed as a whole cannot be read, or has no column for the SKU.
            CatalogError: the feed's file, the folder or the bucket cannot be read.
        """
        progress = progress or SilentProgress()
        products: list[tuple[FeedProduct, tuple[PhotoFile, ...]]] = []
        wrong: list[RowRemark] = []
        with open_feed(self.source.path) as table:
            columns = find_columns(table.columns, self.source.columns)
            progress.start("check", 0)
            for product in read_products(table.rows, columns):
                photos, missing = self._find(product)
                wrong += (*product.problems, *missing)
                products.append((product, photos))
                progress.advance("check")
        bad = {remark.sku for remark in wrong}
        products = [entry for entry in products if entry[0].sku not in bad]
        outcomes, changes, refused, warnings = self._compare(products)
        progress.finish("check")
        return CheckedFeed(
            columns=columns,
            outcomes=tuple(outcomes),
            changes=changes,
            wrong=tuple(sorted((*wrong, *refused), key=lambda remark: remark.row)),
            warnings=tuple(sorted(warnings, key=lambda remark: remark.row)),
            notes=_notes(columns),
        )

    def write(
        self, checked: CheckedFeed, progress: ProgressSink | None = None
    ) -> Iterator[ProductOutcome | RowRemark]:
        """Write what ``checked`` found to write, a product at a time.

        Each is whole or not there, whatever is killed when; the same call again goes on. One
        import at a time writes.

        Yields:
            each product as soon as it is written, or why it could not be.

        Raises:
            LockTimeoutError: another import is writing.
            CatalogError: nothing can be written.
        """
        progress = progress or SilentProgress()
        todo = [outcome for outcome in checked.outcomes if outcome.sku in checked.changes]
        if not todo:
            return
        with ExitStack() as stack:
            lease = self.home.objects.lease_object(LEASE_KEY)
            stack.enter_context(lease.hold(0.0, _LEASE_SECONDS))
            stack.enter_context(self.folders.writing())
            facts = {"skus": sorted(checked.changes)}
            self.home.audit.append("import", self.source.path.name, facts=facts)
            progress.start(_TASK, len(todo))
            for outcome in todo:
                try:
                    self.folders.write(checked.changes[outcome.sku])
                except FolderRefusedError as error:
                    yield RowRemark(outcome.row, outcome.sku, str(error))
                else:
                    yield outcome
                progress.advance(_TASK, note=outcome.sku)
            progress.finish(_TASK)

    def _find(self, product: FeedProduct) -> tuple[tuple[PhotoFile, ...], list[RowRemark]]:
        """The files that the product's cells name, each once, and the cells that name none."""
        found: dict[str, PhotoFile] = {}
        missing: list[RowRemark] = []
        for named in product.photos:
            try:
                for photo in self.finder.find(named.text):
                    found.setdefault(photo.location, photo)
            except NoSuchPhotoError as error:
                text = f"{named.column} {shown(named.text)}: {error}"
                missing.append(RowRemark(named.row, product.sku, text))
        return tuple(found.values()), missing

    def _compare(
        self, products: Sequence[tuple[FeedProduct, tuple[PhotoFile, ...]]]
    ) -> tuple[list[ProductOutcome], dict[str, FolderChanges], list[RowRemark], list[RowRemark]]:
        outcomes: list[ProductOutcome] = []
        changes: dict[str, FolderChanges] = {}
        refused: list[RowRemark] = []
        warnings: list[RowRemark] = []
        states = self.folders.states([product.sku for product, _ in products])
        for (product, photos), state in zip(products, states, strict=True):
            try:
                if isinstance(state, FolderRefusedError):
                    raise state
                change = self._changes(product, photos, state)
            except FolderRefusedError as error:
                refused.append(RowRemark(product.row, product.sku, str(error)))
                continue
            except OSError as error:  # while photos are compared
                text = (
                    f"{error.filename} cannot be read ({error.strerror or error}); expected a file"
                )
                text += " that this user may read; give the permission"
                refused.append(RowRemark(product.row, product.sku, text))
                continue
            warnings += product.warnings
            warnings += self._too_few(product, photos, change)
            outcomes.append(_outcome(product, change))
            if change.any:
                changes[product.sku] = change
        return outcomes, changes, refused, warnings

    def _changes(
        self, product: FeedProduct, photos: Sequence[PhotoFile], state: FolderState
    ) -> FolderChanges:
        change = compare_folder(
            self.folders,
            state,
            encode_card(product.card),
            photos,
            overwrite_card=self.overwrite_cards,
        )
        named: Any = product.card.get("anchor_photos", ())
        for name in () if isinstance(named, str) else named:
            if not any(names_photo(name, photo) for photo in change.all_photos):
                there = ", ".join(map(shown, change.all_photos[:5])) or "none"
                raise FolderRefusedError(
                    f"anchor_photos {shown(name)}: the product has no photo of this name; expected "
                    f"one of its photos ({there}); correct the name"
                )
        return change

    def _too_few(
        self, product: FeedProduct, photos: Sequence[PhotoFile], change: FolderChanges
    ) -> list[RowRemark]:
        catalog = self.home.settings.catalog
        unusable = [photo.name for photo in photos if not 0 < photo.size_bytes <= catalog.max_bytes]
        texts = []
        if unusable:
            texts.append(
                f"{', '.join(map(shown, unusable[:3]))} has no bytes or more than "
                f"{catalog.max_bytes:,}, so it will be refused; replace it"
            )
        count = len(change.all_photos)
        if count < catalog.min_photos:
            texts.append(
                f"{count} photo(s); expected at least {catalog.min_photos}; it cannot be learned "
                "before there are so many"
            )
        return [RowRemark(product.row, product.sku, text) for text in texts]


def _outcome(product: FeedProduct, change: FolderChanges) -> ProductOutcome:
    status = "unchanged" if not change.any else "added" if change.is_new else "changed"
    return ProductOutcome(
        row=product.row,
        sku=product.sku,
        status=status,
        card=change.card is not None,
        added=tuple(sorted(set(change.photos) - set(change.replaced))),
        replaced=change.replaced,
        removed=change.removed,
        kept=change.kept,
    )


def _notes(columns: FeedColumns) -> tuple[str, ...]:
    notes = []
    if "class_noun" not in columns.one and not columns.types:
        notes.append(
            "no column gives a class noun, so every product is learned as a mere 'product'; add a "
            "column class_noun or type"
        )
    if not columns.photos:
        notes.append("no column names photos; only cards are written")
    return tuple(notes)
