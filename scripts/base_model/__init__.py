"""Training of the small Stable-Diffusion-architecture model from the artist's pictures."""

from __future__ import annotations
