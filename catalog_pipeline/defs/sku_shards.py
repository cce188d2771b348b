"""The SKU partitions in sets of about 100,000, which is what Dagster's pages bear.

``python -m catalog_pipeline.defs.sku_shards SKU ...`` says which asset has a SKU.

One home, one index, one memory and one archive: only the two assets by SKU, the job that makes
them and its retry exist once a shard. A SKU belongs to the first shard whose set holds it, and a
new one goes to the first that is not full. So more shards move nothing, and a line of one shard
is one that knows of none.
"""

import logging
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import dagster as dg

from catalog_pipeline.errors import CatalogPipelineError, ConfigurationError
from catalog_pipeline.settings import CatalogSettings, load_settings

ADDED_AT_ONCE = 10_000
"""Keys in one call: SQLite takes at most 250,000 (in some builds 32,766) values in a statement."""

BORDER = ""
"""Stands between the keys of two shards, and for a key that an earlier one holds: never a SKU."""


@dataclass(frozen=True)
class SkuShard:
    """One set of SKU partitions; the first is named as if there were no other."""

    number: int

    def named(self, name: str) -> str:
        """``name`` of the first shard, ``name_2`` of the second."""
        return name if self.number == 1 else f"{name}_{self.number}"

    def key(self, first: dg.AssetKey) -> dg.AssetKey:
        """The asset of this shard that is ``first`` in the first."""
        return dg.AssetKey([*first.path[:-1], self.named(first.path[-1])])

    @cached_property
    def partitions(self) -> dg.DynamicPartitionsDefinition:
        """The partitions of its assets."""
        return dg.DynamicPartitionsDefinition(name=self.set_name)

    @property
    def set_name(self) -> str:
        """What the instance keeps its keys under."""
        return self.named("sku")


def shard_count() -> int:
    """How many shards the definitions have: ``catalogs.yaml: shards``, read as they load.

    Settings with an error give 1 and a warning: the definitions must load all the same, and
    :func:`sku_placement` adds nothing until they are loaded anew.
    """
    try:
        return load_settings().catalog.shards.count
    except CatalogPipelineError as error:
        logging.getLogger(__name__).warning(
            "how many shards of SKUs there are is not known, so one is taken (correct the "
            "settings, then reload): %s",
            error,
        )
        return 1


SKU_SHARDS = tuple(SkuShard(number) for number in range(1, shard_count() + 1))


@dataclass(frozen=True)
class SkuPlacement:
    """Which shard holds which SKU.

    ``keys`` are the partitions of each of ``shards``, in the order in which they were added.
    """

    shards: Sequence[SkuShard]
    keys: Sequence[Sequence[str]]

    @cached_property
    def holders(self) -> Mapping[str, SkuShard]:
        """SKU -> the first shard that holds it."""
        held: dict[str, SkuShard] = {}
        for shard, keys in zip(self.shards, self.keys, strict=True):
            for sku in keys:
                held.setdefault(sku, shard)
        return held

    def shard_of(self, sku: str) -> SkuShard:
        """The shard of ``sku``; KeyError where none holds it."""
        return self.holders[sku]

    def in_order(self) -> list[str]:
        """All partitions, a shard after the other; neighbours are neighbours in one shard."""
        ordered: list[str] = []
        for shard, keys in zip(self.shards, self.keys, strict=True):
            ordered += [sku if self.holders[sku] is shard else BORDER for sku in keys]
            ordered.append(BORDER)
        return ordered[:-1]

    def with_new(self, skus: Iterable[str], size: int) -> "SkuPlacement":
        """The placement with those of ``skus`` that no shard holds, at most ``size`` a shard.

        They go, sorted, to the first shard that is not full; what fits nowhere goes to the last.
        """
        new = sorted(set(skus).difference(self.holders))
        keys = []
        for shard, held in zip(self.shards, self.keys, strict=True):
            room = len(new) if shard is self.shards[-1] else max(0, size - len(held))
            keys.append([*held, *new[:room]])
            new = new[room:]
        return replace(self, keys=keys)

    def added_since(self, before: "SkuPlacement") -> dict[SkuShard, list[str]]:
        """What :meth:`with_new` added to ``before``; shards that got nothing are left out."""
        grown = zip(self.shards, before.keys, self.keys, strict=True)
        return {
            shard: list(keys[len(held) :]) for shard, held, keys in grown if len(keys) > len(held)
        }


def sku_placement(
    instance: dg.DagsterInstance,
    settings: CatalogSettings,
    shards: Sequence[SkuShard] = SKU_SHARDS,
) -> SkuPlacement:
    """The partitions that ``instance`` holds now.

    Raises:
        ConfigurationError: the settings have another number of shards than the definitions, or a
            shard beyond them holds SKUs: these would be added, and seem missing, a second time.
    """
    if settings.shards.count != len(shards):
        raise ConfigurationError(
            f"catalogs.yaml has shards.count: {settings.shards.count}, but the definitions were "
            f"loaded with {len(shards)}; reload the code location"
        )
    beyond = SkuShard(len(shards) + 1).set_name
    if taken := instance.get_dynamic_partitions(beyond):
        raise ConfigurationError(
            f"catalogs.yaml has shards.count: {len(shards)}, but {len(taken)} SKUs are in the "
            f"partition set {beyond!r}; expected {len(shards) + 1} shards or more; shards are "
            "only ever added: correct shards.count and reload the code location"
        )
    held = [list(instance.get_dynamic_partitions(shard.set_name)) for shard in shards]
    return SkuPlacement(shards, held)


def shard_holding(instance: dg.DagsterInstance, sku: str) -> SkuShard:
    """The shard of one SKU, without reading all; the last where none before it holds it."""
    for shard in SKU_SHARDS[:-1]:
        if instance.has_dynamic_partition(shard.set_name, sku):
            return shard
    return SKU_SHARDS[-1]


def add_partitions(instance: dg.DagsterInstance, added: Mapping[SkuShard, Sequence[str]]) -> None:
    """Add SKUs to the sets of their shards. Idempotent; a kill leaves some of them added."""
    for shard, skus in added.items():
        for start in range(0, len(skus), ADDED_AT_ONCE):
            instance.add_dynamic_partitions(
                shard.set_name, list(skus[start : start + ADDED_AT_ONCE])
            )


def main(skus: Sequence[str]) -> int:
    """Print the asset of each SKU; the exit status is 1 where one has no partition."""
    if not skus:
        print("error: got no SKU; expected one or more", file=sys.stderr)
        return 2
    with dg.DagsterInstance.get() as instance:
        shards = {sku: shard_holding(instance, sku) for sku in skus}
        missing = {
            sku
            for sku, shard in shards.items()
            if not instance.has_dynamic_partition(shard.set_name, sku)
        }
    for sku, shard in shards.items():
        where = "no partition; catalog/index says why" if sku in missing else None
        print(f"{sku}: {where or shard.named('learning/concept')}")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
