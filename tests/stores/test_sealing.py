"""The sealed form: what opens it, what does not, and that its bytes stay what they are."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog_pipeline.errors import IntegrityError, KeyDestroyedError, StoreError
from catalog_pipeline.stores import sealing
from catalog_pipeline.stores.sealing import (
    MAGIC,
    DataKey,
    KeyReference,
    recipients_of,
    seal,
    unseal,
)

KEY = "collections/default/parts/0.safetensors"
WHERE = "where it lies"


def data_key(name: str, generation: int = 1) -> DataKey:
    key_id = hashlib.sha256(name.encode()).digest()[:16]
    reference = KeyReference(key_id, generation.to_bytes(8, "big"))
    return DataKey(reference, hashlib.sha256(b"secret " + bytes(reference)).digest())


def ring(*keys: DataKey) -> Callable[[KeyReference], DataKey]:
    known = {key.reference: key for key in keys}

    def find(reference: KeyReference) -> DataKey:
        if reference not in known:
            raise KeyDestroyedError(f"the data key {reference.key_id.hex()} was destroyed")
        return known[reference]

    return find


MUG, CUP, BOWL = map(data_key, ("mug", "cup", "bowl"))
ALL = ring(MUG, CUP, BOWL)


RECIPIENTS = st.lists(
    st.lists(st.sampled_from([MUG, CUP, BOWL]), min_size=1, unique=True), min_size=1, max_size=3
)


@given(st.binary(max_size=300), RECIPIENTS)
def test_what_is_sealed_is_unsealed(data: bytes, recipients: Sequence[Sequence[DataKey]]) -> None:
    sealed = seal(data, recipients, KEY)
    assert unseal(sealed, ALL, KEY, WHERE) == data
    assert len(data) < 8 or data not in sealed
    assert [set(found) for found in recipients_of(sealed, WHERE)] == [
        {key.reference for key in keys} for keys in recipients
    ]


def test_the_same_bytes_never_look_the_same() -> None:
    assert seal(b"weights", [[MUG]], KEY) != seal(b"weights", [[MUG]], KEY)


def test_all_keys_of_a_recipient_are_needed_and_any_recipient_is_enough() -> None:
    pair = seal(b"a picture of two", [[MUG, CUP]], KEY)
    shared = seal(b"bytes of two", [[MUG], [CUP]], KEY)
    assert unseal(pair, ring(CUP, MUG), KEY, WHERE) == b"a picture of two"
    for only in (MUG, CUP):
        with pytest.raises(KeyDestroyedError, match="was destroyed; it was removed for good"):
            unseal(pair, ring(only), KEY, WHERE)
        assert unseal(shared, ring(only), KEY, WHERE) == b"bytes of two"
    with pytest.raises(KeyDestroyedError, match=WHERE):
        unseal(shared, ring(BOWL), KEY, WHERE)


def test_a_key_made_anew_does_not_open_what_was_sealed_before() -> None:
    with pytest.raises(KeyDestroyedError):
        unseal(seal(b"x", [[MUG]], KEY), ring(data_key("mug", 2)), KEY, WHERE)


@pytest.mark.parametrize("recipients", [[[MUG]], [[MUG, CUP], [BOWL]]])
def test_one_flipped_bit_anywhere_is_noticed(recipients: list[list[DataKey]]) -> None:
    sealed = seal(b"the weights of a concept", recipients, KEY)
    for at in range(len(sealed)):
        altered = bytearray(sealed)
        altered[at] ^= 1 << at % 8
        with pytest.raises(IntegrityError, match=WHERE):
            unseal(bytes(altered), ALL, KEY, WHERE)
    for end in range(len(sealed)):
        with pytest.raises(IntegrityError, match=WHERE):
            unseal(sealed[:end], ALL, KEY, WHERE)


def test_a_copy_under_another_key_is_refused() -> None:
    sealed = seal(b"x", [[MUG]], KEY)
    with pytest.raises(IntegrityError, match="was copied from another key"):
        unseal(sealed, ALL, KEY.replace("default", "other"), WHERE)


def test_what_is_no_sealed_object_and_what_is_of_a_newer_release_is_told() -> None:
    with pytest.raises(IntegrityError, match="is no encrypted object: it begins with"):
        unseal(b"\x89PNG" + b"\0" * 90, ALL, KEY, WHERE)
    sealed = seal(b"x", [[MUG]], KEY)
    newer = MAGIC + b"\x02" + sealed[len(MAGIC) + 1 :]
    with pytest.raises(StoreError, match="reads up to 1: upgrade catalog-pipeline"):
        unseal(newer, ALL, KEY, WHERE)


def test_what_is_too_long_for_one_message_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "LONGEST_BYTES", 3)
    with pytest.raises(StoreError, match="has 4 bytes; encryption takes up to 3"):
        seal(b"1234", [[MUG]], KEY)


def test_the_bytes_of_a_sealed_object_are_as_the_format_says() -> None:
    numbers = count(1)
    sealed = seal(
        b"plain", [[CUP, MUG]], KEY, random=lambda length: bytes([next(numbers)]) * length
    )
    ascending = b"".join(sorted(bytes(key.reference) for key in (CUP, MUG)))
    head = MAGIC + b"\x01" + b"\x00\x01" + b"\x00\x02" + ascending
    assert sealed.startswith(head)
    nonce = len(head) + 40
    assert sealed[nonce : nonce + 12] == b"\x02" * 12
    assert sealed[nonce + 12 :][:8] == hashlib.sha256(sealed[: nonce + 12]).digest()[:8]
    assert len(sealed) == nonce + 12 + 8 + len(b"plain") + 16
