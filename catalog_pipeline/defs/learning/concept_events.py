"""What the UI shows of one product in one learning run: figures, pictures, what to do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dagster as dg

from catalog_pipeline.defs.catalog.assets import photo_sheet
from catalog_pipeline.defs.metadata import events_link, location, loss_curve, numbers, table
from catalog_pipeline.defs.pictures import InARun, picture
from catalog_pipeline.records import IndexRow, LearnOutcome, PhotoSet

if TYPE_CHECKING:
    from catalog_pipeline.workflows.home import Home

CONCEPT_KEY = dg.AssetKey(["learning", "concept"])
LINKS_IN_A_FAILURE = 20
PICTURES_IN_A_FAILURE = 4
"""Of refused candidates, in the one event that a failed run ends with; each has its own, too."""


@dataclass(frozen=True)
class Refused:
    """A product that was not learned.

    Attributes:
        outcome: what became of it.
        row: of the index, afterwards; ``None`` where it has none.
        photo_sheet_png: its photos; empty where they could not be read.
        left_out: photo -> why it was not used.
    """

    outcome: LearnOutcome
    row: IndexRow | None = None
    photo_sheet_png: bytes = b""
    left_out: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, outcome: LearnOutcome, row: IndexRow | None, photos: PhotoSet | None) -> "Refused":
        """Of the photos no more than a sheet is kept: a run may refuse many products."""
        if photos is None:
            return cls(outcome, row, left_out=row.left_out if row else {})
        left_out = {file.key: file.reason for file in photos.refused}
        return cls(outcome, row, photo_sheet(photos), left_out)

    @property
    def sku(self) -> str:
        """Whose."""
        return self.outcome.sku

    @property
    def picture_png(self) -> bytes:
        """What the gate saw, else the photos; empty where none could be read."""
        return self.outcome.contact_sheet_png or self.photo_sheet_png

    def what_to_do(self, home: "Home", *, folder: str = "") -> str:
        """The one thing to do; ``folder`` is what the folder of the photos is called."""
        from catalog_pipeline.workflows.upkeep.next_steps import next_step

        if self.row is None:
            return "run `catalog-pipeline index`: the index does not know it"
        return next_step(home, self.row, folder=folder)


def concept_event(
    outcome: LearnOutcome,
    photos: PhotoSet | None,
    run: InARun,
    steps: int | None,
    key: dg.AssetKey = CONCEPT_KEY,
) -> dg.AssetMaterialization:
    """A product that was learned, or is unchanged; ``key`` is the asset of its shard."""
    metadata: dict[str, Any] = {
        "status": outcome.status,
        "adapter_version": outcome.version,
        "seconds": round(outcome.seconds, 1),
        **numbers("metric", outcome.metrics),
    }
    words = f"{outcome.status.capitalize()} in {outcome.seconds:.1f} s"
    if photos is not None:
        metadata |= {"photos used": len(photos.photos), "photos left out": len(photos.refused)}
        words += f" from {len(photos.photos)} photos ({len(photos.refused)} left out)"
    if outcome.reason:
        metadata["reason"] = outcome.reason
        words += f": {outcome.reason}"
    if steps is not None:
        metadata["steps of this run"] = steps
    if outcome.contact_sheet_png:
        sheet = outcome.contact_sheet_png
        metadata["photos_above_samples_below"] = picture(sheet, alt=outcome.sku, run=run)
    if outcome.loss_curve:
        metadata["loss_curve"] = loss_curve(outcome.loss_curve, run)
        metadata["loss/first"] = float(outcome.loss_curve[0][1])
        metadata["loss/final"] = float(outcome.loss_curve[-1][1])
    return dg.AssetMaterialization(
        asset_key=key, partition=outcome.sku, description=words, metadata=metadata
    )


def refusal_event(
    refused: Refused, home: "Home", run: InARun, key: dg.AssetKey = CONCEPT_KEY
) -> dg.AssetObservation:
    """A product that was not learned: the reason, its photos, its pictures, what to do."""
    from catalog_pipeline.workflows.upkeep.next_steps import photo_folder

    outcome, to_do = refused.outcome, refused.what_to_do(home)
    folder = photo_folder(home, refused.sku)
    metadata: dict[str, Any] = {
        "status": "refused",
        "reason": outcome.reason,
        "what to do": to_do,
        "folder": location(folder),
        **numbers("metric", outcome.metrics),
    }
    words = f"Not learned: {outcome.reason}. To do: {to_do}."
    if refused.picture_png:
        name = "before_above_after_below" if outcome.contact_sheet_png else "photos"
        metadata[name] = picture(refused.picture_png, alt=refused.sku, run=run)
    if refused.left_out:
        metadata["left out"] = table(
            [{"photo": key, "reason": reason} for key, reason in refused.left_out.items()],
            {"photo": "string", "reason": "string"},
        )
    return dg.AssetObservation(
        asset_key=key, partition=refused.sku, description=words, metadata=metadata
    )


def run_failure(
    refused: Sequence[Refused],
    asked: int,
    home: "Home",
    run: InARun,
    key: dg.AssetKey = CONCEPT_KEY,
) -> dg.Failure:
    """What a run ends with that did not learn every product: each with its way out."""
    from catalog_pipeline.workflows.upkeep.next_steps import photo_folder

    reasons = "; ".join(f"{item.sku}: {item.outcome.reason}" for item in refused)
    shown = [item for item in refused if item.picture_png][:PICTURES_IN_A_FAILURE]
    return dg.Failure(
        description=f"{len(refused)} of {asked} SKUs were not learned: {reasons}",
        metadata={
            "failed": table(
                [
                    {
                        "sku": item.sku,
                        "reason": item.outcome.reason,
                        "what to do": item.what_to_do(home, folder=f"the folder {item.sku}"),
                        "photos": photo_folder(home, item.sku),
                        "pictures": f"pictures/{item.sku}" if item in shown else "open its events",
                    }
                    for item in refused
                ],
                dict.fromkeys(("sku", "reason", "what to do", "photos", "pictures"), "string"),
            ),
            **{
                f"events/{item.sku}": events_link(key, item.sku)
                for item in refused[:LINKS_IN_A_FAILURE]
            },
            **{
                f"pictures/{item.sku}": picture(item.picture_png, alt=item.sku, run=run)
                for item in shown
            },
        },
        # The same photos would fail the same way; the pool is needed by the others.
        allow_retries=False,
    )
