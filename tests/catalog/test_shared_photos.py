"""The photos of one product under the name of another."""

from __future__ import annotations

from catalog_pipeline.catalog.shared_photos import shared_photo_warnings


def digests(**folders: str) -> dict[str, tuple[str, str]]:
    """Each letter of a folder is a photo with that content; each has a card, all alike."""
    photos = {
        f"{sku}/{n}.jpg": ("etag", content)
        for sku, contents in folders.items()
        for n, content in enumerate(contents)
    }
    return photos | {f"{sku}/sku.yaml": ("etag", "card") for sku in folders}


def test_a_copied_folder_names_both_skus() -> None:
    (warning,) = shared_photo_warnings(digests(mug="abcd", cup="efgh", copy="dcba"))
    assert warning.startswith("copy and mug have 4 photos in common (of 4 and 4)")


def test_half_of_either_is_enough_and_less_is_not() -> None:
    (warning,) = shared_photo_warnings(digests(large="abcdefgh", small="ghxy"))
    assert "large and small have 2 photos in common (of 8 and 4)" in warning
    (other_way,) = shared_photo_warnings(digests(a="ghxy", b="abcdefgh"))
    assert "a and b have 2 photos in common (of 4 and 8)" in other_way
    assert shared_photo_warnings(digests(large="abcdefgh", small="gxyz")) == ()


def test_a_picture_that_all_products_share_is_no_reason_to_warn() -> None:
    assert shared_photo_warnings(digests(a="123s", b="456s", c="789s")) == ()


def test_every_copy_is_named_once_and_a_repeat_inside_a_folder_is_not_counted() -> None:
    warnings = shared_photo_warnings(digests(a="123", b="123", c="1123", d="4455"))
    assert [warning.split(" have ")[0] for warning in warnings] == ["a and b", "a and c"]
    assert "(of 3 and 3)" in warnings[1]
    assert shared_photo_warnings({}) == ()
