"""What rules, captions and the report read out of a measurement dict, in one place."""

from __future__ import annotations

from typing import Any

Measurement = dict[str, Any]
SubjectFacts = dict[str, Any]

# Face height over frame height from which a framing is called so; the face box reaches from brow to chin.
FRAMINGS: tuple[tuple[str, float], ...] = (
    ("close-up", 0.42),
    ("portrait", 0.24),
    ("half body", 0.12),
    ("full body", 0.05),
    ("far away", 0.0),
)


def subjects(measurement: Measurement, minimum_score: float = 0.0) -> list[SubjectFacts]:
    """Characters with at least that detector score, largest first."""
    return [subject for subject in measurement.get("subjects", ()) if subject["score"] >= minimum_score]


def main_subject(measurement: Measurement) -> SubjectFacts | None:
    """The largest character, or None when nobody was found."""
    found = subjects(measurement)
    return found[0] if found else None


def counted(measurement: Measurement, dominance: float, minimum_score: float = 0.0) -> int:
    """Characters that count: those at least `dominance` times as tall in the face as the tallest."""
    found = subjects(measurement, minimum_score)
    return sum(subject["size"] >= dominance * found[0]["size"] for subject in found)


def face_pixels(measurement: Measurement, subject: SubjectFacts, longest_side: int) -> float | None:
    """Face height in pixels after the picture was reduced (never enlarged) to `longest_side`."""
    if subject["face_px"] is None:
        return None
    return subject["face_px"] * min(1.0, longest_side / max(measurement["width"], measurement["height"]))


def ratio(measurement: Measurement, what: str) -> float | None:
    """Height of the main character's `face` or `subject` (whole visible figure) over the frame's height."""
    subject = main_subject(measurement)
    return None if subject is None else subject["face_height" if what == "face" else "subject_height"]


def cut_off(measurement: Measurement, edge: float) -> str | None:
    """The edge (left, right, top, bottom) that cuts the main face: its box touches that one but not the opposite one.

    `edge`: share of the frame's width or height that counts as touching. A close-up that touches both is not cut off.
    """
    subject = main_subject(measurement)
    if subject is None or subject["face"] is None or edge <= 0:
        return None
    x0, y0, x1, y1 = subject["face"]
    for low, high, first, second in ((x0, x1, "left", "right"), (y0, y1, "top", "bottom")):
        if (low <= edge) != (high >= 1 - edge):
            return first if low <= edge else second
    return None


def framing(measurement: Measurement) -> str | None:
    """close-up, portrait, half body, full body or far away; None when the main face is not known."""
    share = ratio(measurement, "face")
    return None if share is None else next(name for name, least in FRAMINGS if share >= least)


def view(measurement: Measurement) -> str | None:
    """front, three_quarter, profile or back as the detector said it, or None."""
    subject = main_subject(measurement)
    return None if subject is None else subject["view"]
