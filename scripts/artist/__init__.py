"""A small procedural artist: draws characters of which everything is known.

`scene` describes a picture, `draw` renders it together with its exact truth, `caption` writes
what a person would write about it, `readback` reads colours back from any picture.
Needs numpy, Pillow and OpenCV only.
"""

from __future__ import annotations
