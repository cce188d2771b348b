"""The packet says the same to every reader, and nothing that must stay at home."""

from __future__ import annotations

import io
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from catalog_pipeline.evaluation.contact_sheet import decode_png, encode_png
from catalog_pipeline.provenance.origin import COMPOSITE, GENERATED, Origin, origin_of
from catalog_pipeline.provenance.picture_files import read_picture, with_xmp, xmp_of
from catalog_pipeline.provenance.xmp import read_origin, xmp_packet
from catalog_pipeline.records import Source
from tests.builders import make_archive_row
from tests.provenance.pictures import ORIGIN, PLACED, encoded, scene

PIXELS = scene(24)


@pytest.mark.parametrize("origin", [ORIGIN, PLACED, replace(ORIGIN, version="")])
def test_a_packet_says_what_it_was_made_of(origin: Origin) -> None:
    assert read_origin(xmp_packet(origin)) == origin
    assert xmp_packet(origin) == xmp_packet(replace(origin))


def test_pillow_and_any_reader_of_xml_find_the_digital_source_type() -> None:
    png = with_xmp(encode_png(PIXELS), xmp_packet(ORIGIN))
    with Image.open(io.BytesIO(png)) as image:
        image.load()
        packet = image.info["XML:com.adobe.xmp"]
        np.testing.assert_array_equal(np.asarray(image), PIXELS)
    (description,) = ElementTree.fromstring(packet.encode()).iter(
        "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description"
    )
    iptc = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}"
    assert description.attrib[iptc + "DigitalSourceType"] == (
        "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
    )
    assert description.attrib[iptc + "AISystemUsed"] == "catalog-pipeline"
    assert description.attrib["{http://ns.adobe.com/xap/1.0/}CreatorTool"] == (
        "catalog-pipeline 1.2.3"
    )


def test_the_chunk_is_all_that_is_new() -> None:
    """Whoever takes it out has the very file of a home without metadata."""
    plain, packet = encode_png(PIXELS), xmp_packet(ORIGIN)
    png = with_xmp(plain, packet)
    assert (xmp_of(plain), xmp_of(png)) == (b"", packet)
    start = png.index(b"iTXt") - 4
    length = 12 + int.from_bytes(png[start : start + 4], "big")
    assert png[:start] + png[start + length :] == plain
    np.testing.assert_array_equal(decode_png(png), PIXELS)


@pytest.mark.parametrize("form", ["JPEG", "WEBP"])
def test_other_forms_carry_the_same_packet(form: str) -> None:
    found = read_picture(encoded(PIXELS, form, xmp=xmp_packet(PLACED)))
    assert read_origin(found.xmp) == PLACED


def test_an_editor_may_write_elements_in_place_of_attributes() -> None:
    said = xmp_packet(ORIGIN).decode()
    line = f'    catalog:JobId="{ORIGIN.job_id}"\n'
    assert line in said
    inside = f"><catalog:JobId>{ORIGIN.job_id}</catalog:JobId></rdf:Description>"
    edited = said.replace(line, "").replace("/>\n </rdf:RDF>", f"{inside}\n </rdf:RDF>")
    assert read_origin(edited.encode()) == ORIGIN


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"not XML",
        b"<a/>",
        xmp_packet(ORIGIN)[:200],
        xmp_packet(replace(ORIGIN, job_id="")),
        b'<!DOCTYPE x [<!ENTITY a "b">]>' + xmp_packet(ORIGIN),
        b"<?xml version='1.0' encoding='no-such'?><a/>",
        xmp_packet(ORIGIN) + b" " * 1_000_001,
    ],
)
def test_a_packet_of_others_or_a_hostile_one_says_nothing(packet: bytes) -> None:
    assert read_origin(packet) is None


def test_values_cannot_end_the_packet() -> None:
    odd = replace(ORIGIN, job_id='"/><evil a="&', base_model_hash="<&>")
    assert read_origin(xmp_packet(odd)) == odd


def test_a_row_is_a_composite_when_pixels_of_a_photo_stand_in_it() -> None:
    drawn = make_archive_row("job", "MUG", mode="learned")
    redrawn = make_archive_row("job", "MUG", mode="anchored", photos={"MUG": "ab"})
    placed = make_archive_row("job", "MUG", mode="exact", real_pixels=0.4, photos={"MUG": "ab"})
    soft = replace(placed, real_pixels=0.0)  # nothing of it is wholly opaque
    kinds = [origin_of(row).source_type for row in (drawn, redrawn, placed, soft)]
    assert kinds == [GENERATED, GENERATED, COMPOSITE, COMPOSITE]


def test_no_product_and_no_prompt_is_in_what_travels() -> None:
    sources = {"SECRET-42": Source("kitchen", "v2"), "OTHER-43": Source("garden", "v1")}
    row = make_archive_row("job", "SECRET-42", "OTHER-43", sources=sources, prompt="a new lamp")
    packet = xmp_packet(origin_of(row, "1.2.3"))
    assert origin_of(row).adapter_versions == ("v1", "v2")
    for secret in (b"SECRET", b"OTHER", b"lamp", b"kitchen", b"garden"):
        assert secret not in packet
