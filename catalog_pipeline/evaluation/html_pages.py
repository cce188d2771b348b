"""Pictures inside an HTML page: data URIs, so that one file is the whole report."""

from __future__ import annotations

from base64 import b64encode
from io import BytesIO

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from catalog_pipeline.records import Pixels


def page_templates() -> Environment:
    """The package's HTML templates; everything put into them is escaped."""
    environment = Environment(
        loader=PackageLoader("catalog_pipeline.evaluation", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["grade"] = share_grade
    return environment


def share_grade(share: float) -> str:
    """The CSS class of a fidelity share: good, fair below 0.7, poor below 0.45."""
    return "good" if share >= 0.7 else "fair" if share >= 0.45 else "poor"


def data_uri(data: bytes, media_type: str) -> str:
    """``data:<media_type>;base64,...``."""
    return f"data:{media_type};base64,{b64encode(data).decode('ascii')}"


def picture_uri(pixels: Pixels, max_side_px: int = 512, quality: int = 88, xmp: bytes = b"") -> str:
    """A picture as a WebP data URI, reduced to ``max_side_px`` on its longer side.

    ``xmp`` is a packet that whoever saves the picture has with it.
    """
    image = Image.fromarray(pixels)
    image.thumbnail((max_side_px, max_side_px), Image.Resampling.LANCZOS)
    buffer = BytesIO()
    image.save(buffer, format="WEBP", quality=quality, method=4, xmp=xmp)
    return data_uri(buffer.getvalue(), "image/webp")
