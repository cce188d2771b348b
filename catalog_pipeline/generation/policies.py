"""What a night asks for: singles, pairs, triples, cross-sell lists, best-sellers, coverage.

Each policy names the products of its pictures; scenes, layouts and sides are drawn
for the products, not for the policy. A policy never changes what another one draws:
a pair that two policies ask for becomes two pictures, in different scenes.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cache
from itertools import chain

from catalog_pipeline.generation.draws import (
    KINDS,
    Fits,
    NightDraw,
    Slot,
    category_of,
    draw_groups,
    find_eligible,
    hash_number,
    order_by_weight,
    order_scenes,
    order_sides,
    partners_by_rule,
    shorten,
)
from catalog_pipeline.records import Concept
from catalog_pipeline.settings import (
    CATEGORY,
    CrossSellSettings,
    GenerationSettings,
    PolicySettings,
)

Group = tuple[str, ...]
"""SKUs of one picture, sorted."""


def draw_slots(
    by_sku: Mapping[str, Concept],
    settings: GenerationSettings,
    draws: NightDraw,
    *,
    collection: str,
    shown: Mapping[str, int],
    elsewhere: Collection[str],
    fits: Fits = lambda concepts, scene: True,
) -> tuple[list[Slot], list[str]]:
    """Every picture that the policies ask for, and in words what they asked for in vain.

    A group that ``fits`` no scene is left out, and one that fits some stands in these.

    Args:
        by_sku: the products of the collection, or of those that share pictures.
        settings: scenes, layouts and policies.
        draws: what every hash of this night begins with.
        collection: its name, for the notes.
        shown: published pictures by SKU in the nights that coverage looks back on.
        elsewhere: SKUs and ``category:<name>`` of other collections; a list that names them is
            right, though nothing comes of it here.
        fits: see above; default every group fits every scene.
    """
    policies, draw = settings.policies, draws.whole
    scene_fits = cache(lambda group, name: fits([by_sku[sku] for sku in group], scenes[name]))
    scenes = {scene.name: scene for scene in settings.scenes}

    def has_scene(group: Group) -> bool:
        return any(scene_fits(group, name) for name in scenes)

    wishes: list[tuple[Group, str]] = [
        ((sku,), KINDS[1]) for sku in by_sku for _ in range(policies.singles_per_sku)
    ]
    drawn, notes = _draw_free_groups(by_sku, policies, draw)
    wishes += drawn
    found, more = _draw_cross_sell(by_sku, policies.cross_sell, draw, collection, elsewhere)
    wishes += found
    beside, still_more = _draw_best_sellers(by_sku, policies, draw, shown, collection, elsewhere)
    wishes += beside
    wishes, unfit = _split(wishes, has_scene)
    wished = Counter(chain.from_iterable(group for group, _ in wishes))
    top_up = _draw_top_up(by_sku, policies, draw, shown, wished, has_scene)
    found, lonely = _split(top_up, has_scene)
    wishes, unfit = wishes + found, unfit + lonely
    notes += more + still_more
    if unfit:
        notes.append(
            f"{len(unfit)} picture(s) left out, since in no scene the base's text encoder reads "
            f"their prompts whole: {shorten(_name_groups(group for group, _ in unfit))}; shorten "
            "class_noun in the products' cards, or the scenes"
        )
    elif not wishes:
        notes.append("nothing planned: the policies ask for no pictures of these products")
    turns: Counter[Group] = Counter()
    slots = []
    passed_over: dict[str, list[Group]] = {}
    for group, policy in wishes:
        turn = turns[group]
        turns[group] += 1
        own = draws.of(group)
        drawn_scenes = order_scenes(settings.scenes, own, group)
        fitting = [scene for scene in drawn_scenes if scene_fits(group, scene.name)]
        for scene in drawn_scenes:
            if scene not in fitting:
                passed_over.setdefault(scene.name, []).append(group)
        layouts = order_by_weight(settings.layouts.weights(len(group)), own, "layout", *group)
        slots.append(
            Slot(
                skus=order_sides(group, turn, own),
                scene=fitting[turn % len(fitting)],
                layout=layouts[turn % len(layouts)],
                turn=turn,
                policy=policy,
            )
        )
    notes += [
        f"scene {name!r} is passed over, since with its text the base's text encoder does not "
        f"read their prompts whole, for {shorten(_name_groups(groups))}"
        for name, groups in sorted(passed_over.items())
    ]
    return slots, notes


def list_items(by_sku: Mapping[str, Concept]) -> set[str]:
    """Everything that a list may say to mean one of these products."""
    categories = {f"{CATEGORY}{category_of(c).casefold()}" for c in by_sku.values()}
    return categories | set(by_sku)


# --- the policies --------------------------------------------------------------------


def _draw_free_groups(
    by_sku: Mapping[str, Concept], policies: PolicySettings, draw: str
) -> tuple[list[tuple[Group, str]], list[str]]:
    """Pairs and triples of any products that ``pair_rule`` lets stand together."""
    rule = policies.pair_rule
    wishes: list[tuple[Group, str]] = []
    notes = []
    for size, count in ((2, policies.pairs), (3, policies.triples)):
        if count == 0:
            continue
        eligible = find_eligible(by_sku, size, rule)
        if not eligible:
            notes.append(
                f"no {KINDS[size]} planned: {len(by_sku)} product(s) give no {size} that "
                f"satisfy pair_rule {rule!r}"
            )
            continue
        lonely = sorted(set(by_sku) - set(eligible))
        if lonely:
            notes.append(f"in no {KINDS[size]} under pair_rule {rule!r}: {shorten(lonely)}")
        rank = {sku: hash_number(draw, "rank", str(size), sku) for sku in eligible}
        groups = draw_groups(eligible, size, count, partners_by_rule(eligible, rule), rank)
        wishes += [(group, KINDS[size]) for group in groups]
    return wishes, notes


def _draw_cross_sell(
    by_sku: Mapping[str, Concept],
    settings: CrossSellSettings,
    draw: str,
    collection: str,
    elsewhere: Collection[str],
) -> tuple[list[tuple[Group, str]], list[str]]:
    """Pairs of products from two different items of a list, each list by its weight."""
    notes: list[str] = []
    members: dict[str, dict[str, set[int]]] = {}
    for entry in settings.lists:
        found = _find_members(by_sku, entry.items)
        missing = [e for e in entry.items if not _matches(by_sku, e) and e not in elsewhere]
        if len(found) > 1 and len(set().union(*found.values())) > 1:
            members[entry.name] = found
            verdict = "is short"
        else:
            verdict = "gives no pair"
        if missing or (found and verdict == "gives no pair"):
            absent = missing or [e for e in entry.items if not _matches(by_sku, e)]
            notes.append(
                f"cross-sell list {entry.name!r} {verdict} in collection {collection!r}: "
                + (f"nothing learned for {shorten(absent)}" if absent else "its items are one SKU")
            )
    weights = {entry.name: entry.weight for entry in settings.lists if entry.name in members}
    wishes: list[tuple[Group, str]] = []
    for name, count in _share_out(settings.pictures, weights, draw).items():
        places = members[name]

        def find(group: Sequence[str], places: Mapping[str, set[int]] = places) -> list[str]:
            (first,) = group
            return [s for s in places if s != first and len(places[s] | places[first]) > 1]

        rank = {sku: hash_number(draw, "cross_sell", name, sku) for sku in places}
        groups = draw_groups(places, 2, count, find, rank)
        wishes += [(group, f"cross_sell/{name}") for group in groups]
    return wishes, notes


def _draw_best_sellers(
    by_sku: Mapping[str, Concept],
    policies: PolicySettings,
    draw: str,
    shown: Mapping[str, int],
    collection: str,
    elsewhere: Collection[str],
) -> tuple[list[tuple[Group, str]], list[str]]:
    """Each product that nobody has seen yet beside best-sellers, other categories first.

    Two products of one category are the pair most easily mixed up in a picture.
    """
    settings = policies.best_sellers
    best = _find_members(by_sku, settings.items)
    notes = []
    missing = [e for e in settings.items if not _matches(by_sku, e) and e not in elsewhere]
    if missing:
        notes.append(
            f"best_sellers: nothing learned for {shorten(missing)} in collection {collection!r}"
        )
    new = [sku for sku in by_sku if not shown.get(sku) and sku not in best]
    new.sort(key=lambda sku: (-by_sku[sku].task, sku))
    each = min(settings.per_new_sku, len(best))
    wanted = len(new) * each
    wishes: list[tuple[Group, str]] = []
    for sku in new if best else ():
        if len(wishes) >= settings.max_pictures:
            break
        own = category_of(by_sku[sku])
        liking = {
            s: (category_of(by_sku[s]) == own, hash_number(draw, "best", sku, s)) for s in best
        }
        chosen = sorted(best, key=liking.__getitem__)[:each]
        wishes += [((min(sku, s), max(sku, s)), "best_sellers") for s in chosen]
    if wanted > settings.max_pictures:
        notes.append(
            f"best_sellers: {wanted - settings.max_pictures} of {wanted} pairs left out "
            f"(max_pictures {settings.max_pictures}); the products learned last came first"
        )
    return wishes[: settings.max_pictures], notes


def _draw_top_up(
    by_sku: Mapping[str, Concept],
    policies: PolicySettings,
    draw: str,
    shown: Mapping[str, int],
    wished: Mapping[str, int],
    has_scene: Callable[[Group], bool],
) -> list[tuple[Group, str]]:
    """More pictures of the products that all else leaves below ``coverage.images``.

    As pairs, two lacking products share a picture where ``pair_rule`` lets them and they
    fit a scene together; the one that is left over stands alone.
    """
    coverage = policies.coverage
    lacking = {
        sku: coverage.images - shown.get(sku, 0) - wished.get(sku, 0)
        for sku in by_sku
        if coverage.images > shown.get(sku, 0) + wished.get(sku, 0)
    }
    groups: list[Group] = []
    for turn in range(max(lacking.values(), default=0)):
        order = sorted(
            (sku for sku, count in lacking.items() if count > turn),
            key=lambda sku: hash_number(draw, "cover", str(turn), sku),
        )
        if coverage.top_up == "singles":
            groups += [(sku,) for sku in order]
        else:
            groups += _pair_up(order, by_sku, policies.pair_rule)
    apart = [
        part
        for group in groups
        for part in ([group] if has_scene(group) else [(sku,) for sku in group])
    ]
    return [(group, "coverage") for group in apart]


def _pair_up(skus: Sequence[str], by_sku: Mapping[str, Concept], rule: str) -> list[Group]:
    """Pairs in the order given, as far as ``pair_rule`` allows; who finds no partner is alone."""
    groups: list[Group] = []
    waiting: dict[str, deque[str]] = {}
    for sku in skus:
        own = category_of(by_sku[sku]) if rule == "same_category" else ""
        queue = waiting.setdefault(own, deque())
        alike = queue and category_of(by_sku[queue[0]]) == category_of(by_sku[sku])
        if queue and not (rule == "cross_category" and alike):
            one, two = sorted((queue.popleft(), sku))
            groups.append((one, two))
        else:
            queue.append(sku)
    return groups + [(sku,) for queue in waiting.values() for sku in queue]


def _split(
    wishes: Sequence[tuple[Group, str]], has_scene: Callable[[Group], bool]
) -> tuple[list[tuple[Group, str]], list[tuple[Group, str]]]:
    """Those that fit a scene, and the others."""
    fitting = [wish for wish in wishes if has_scene(wish[0])]
    return fitting, [wish for wish in wishes if not has_scene(wish[0])]


def _name_groups(groups: Iterable[Group]) -> list[str]:
    return sorted({" + ".join(group) for group in groups})


# --- lists, shares -------------------------------------------------------------------


def _matches(by_sku: Mapping[str, Concept], item: str) -> list[str]:
    """The SKUs that an item of a list means; none when nothing like it is learned."""
    if not item.startswith(CATEGORY):
        return [item] if item in by_sku else []
    wanted = item.removeprefix(CATEGORY)
    return [sku for sku, c in by_sku.items() if category_of(c).casefold() == wanted]


def _find_members(by_sku: Mapping[str, Concept], items: Sequence[str]) -> dict[str, set[int]]:
    """SKU -> the places of the items that mean it, in the order of the SKUs."""
    places: dict[str, set[int]] = {}
    for place, item in enumerate(items):
        for sku in _matches(by_sku, item):
            places.setdefault(sku, set()).add(place)
    return dict(sorted(places.items()))


def _share_out(count: int, weights: Mapping[str, float], draw: str) -> dict[str, int]:
    """``count`` in proportion to the weights, each name within one of its share.

    Systematic sampling from a start that the night draws, so that over many nights
    a name of little weight has its turn too.
    """
    total = sum(weights.values())
    start = (hash_number(draw, "cross_sell") + 0.5) / 2**64
    shares = dict.fromkeys(weights, 0)
    reached, taken = 0.0, 0
    for place, (name, weight) in enumerate(weights.items(), 1):
        reached += weight
        upto = count if place == len(weights) else min(count, int(count * reached / total + start))
        shares[name], taken = upto - taken, upto
    return shares
