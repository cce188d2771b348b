"""What a picture says of how it was made: XMP, Content Credentials (C2PA), a mark in its pixels.

Three layers, written in this order: ``watermark`` changes pixels, ``xmp`` adds a chunk to their
file, ``content_credentials`` signs the whole of it. ``certificates`` are what it signs with, and
``picture_files`` takes a file apart again. Nothing here asks a network for anything.
"""
