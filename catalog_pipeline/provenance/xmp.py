"""The XMP packet of a picture: IPTC's digital source type, and where the picture comes from.

Properties of IPTC Photo Metadata (``DigitalSourceType``, ``AISystemUsed``,
``AISystemVersionUsed``), ``xmp:CreatorTool``, and three of our own. The same origin gives the
same bytes: no time of day, no identifier of the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from xml.etree import ElementTree

from catalog_pipeline.provenance.origin import PROGRAM, Origin, source_type_of

NAMESPACE = "urn:catalog-pipeline:picture:1#"
"""Of our own properties: ``JobId``, ``BaseModelHash``, ``AdapterVersions`` (parted by spaces)."""

_IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_XMP = "http://ns.adobe.com/xap/1.0/"
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_LONGEST_BYTES = 1_000_000
"""Of a packet that is read; ours have about a thousand."""

_HEAD = f"""\
<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="{_RDF}">
  <rdf:Description rdf:about=""
    xmlns:Iptc4xmpExt="{_IPTC}"
    xmlns:xmp="{_XMP}"
    xmlns:catalog="{NAMESPACE}\""""
_FOOT = """/>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>"""


def xmp_packet(origin: Origin) -> bytes:
    """The packet of ``origin``, UTF-8; the same for the same one."""
    said = {
        "Iptc4xmpExt:DigitalSourceType": origin.source_type_uri,
        "Iptc4xmpExt:AISystemUsed": PROGRAM,
        "Iptc4xmpExt:AISystemVersionUsed": origin.version,
        "xmp:CreatorTool": f"{PROGRAM} {origin.version}".strip(),
        "catalog:JobId": origin.job_id,
        "catalog:BaseModelHash": origin.base_model_hash,
        "catalog:AdapterVersions": " ".join(origin.adapter_versions),
    }
    lines = [f'    {name}="{escape(value)}"' for name, value in said.items() if value]
    return "\n".join([_HEAD, *lines]).encode() + _FOOT.encode()


def read_origin(packet: bytes) -> Origin | None:
    """What a packet says of a picture of ours, whoever wrote it anew; ``None`` without a job.

    Nobody vouches for it: a packet is text that anybody can write.
    """
    if len(packet) > _LONGEST_BYTES or b"<!DOCTYPE" in packet or b"<!ENTITY" in packet:
        return None
    try:
        said = dict(_properties(ElementTree.fromstring(packet.strip(b"\0 \n"))))
    except (ElementTree.ParseError, ValueError, LookupError):  # an encoding that nobody knows
        return None
    job_id = said.get(f"{{{NAMESPACE}}}JobId", "")
    if not job_id:
        return None
    return Origin(
        job_id=job_id,
        source_type=source_type_of(said.get(f"{{{_IPTC}}}DigitalSourceType", "")),
        base_model_hash=said.get(f"{{{NAMESPACE}}}BaseModelHash", ""),
        adapter_versions=tuple(said.get(f"{{{NAMESPACE}}}AdapterVersions", "").split()),
        version=said.get(f"{{{_IPTC}}}AISystemVersionUsed", ""),
    )


def _properties(root: ElementTree.Element) -> Iterator[tuple[str, str]]:
    """Simple properties, which a writer of XMP may put into attributes or into elements."""
    for description in root.iter(f"{{{_RDF}}}Description"):
        yield from description.attrib.items()
        for element in description:
            yield element.tag, (element.text or "").strip()
