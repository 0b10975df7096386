"""Captions from a template of measured facts, or from `.txt` files beside the pictures."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

from ..core.errors import BadInput
from ..core.files import inside
from ..core.types import Curation, ImageSet, Picture
from . import facts
from .facts import Measurement

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_VIEW_WORDS = {
    "front": "front view",
    "three_quarter": "three-quarter view",
    "profile": "profile",
    "back": "from behind",
}
_FIELDS = ("trigger", "framing", "view", "light", "characters")
_MAX_BYTES = 64 * 1024


@dataclass(frozen=True)
class CaptionOptions:
    """How captions are made.

    `template` may name {trigger}, {framing}, {view}, {light} and {characters}; what is not known of a picture is
    left out together with its comma. With `use_sidecars`, a `.txt` or `.caption` file beside a picture is its caption
    and the template only serves pictures without one. `prefix` and `suffix` go around every caption, also around
    sidecars; the trigger is put in front of a sidecar that does not hold it.
    """

    template: str = "{trigger}, {framing}, {view}"
    trigger: str = ""
    use_sidecars: bool = True
    prefix: str = ""
    suffix: str = ""


def caption(curation: Curation, options: CaptionOptions = CaptionOptions()) -> Curation:
    """Give every picture a caption; BadInput for an unknown placeholder or a sidecar that is not UTF-8 text."""
    _check_template(options.template)
    root = Path(curation.images.root)
    sidecars = read_sidecars(root, curation.images.pictures) if options.use_sidecars else {}
    pictures = tuple(
        replace(picture, caption=_caption(curation.measurements[picture.sha256], sidecars.get(picture.path), options))
        for picture in curation.images.pictures
    )
    return replace(curation, images=replace(curation.images, pictures=pictures))


def with_sidecars(images: ImageSet) -> ImageSet:
    """The set with the captions that lie beside its pictures; pictures without one keep what they have."""
    found = read_sidecars(Path(images.root), images.pictures)
    pictures = (replace(picture, caption=found.get(picture.path, picture.caption)) for picture in images.pictures)
    return replace(images, pictures=tuple(pictures))


def read_sidecars(root: Path, pictures: Iterable[Picture]) -> dict[str, str]:
    """Captions by picture path, from `name.txt` or `name.caption`; an empty file counts as missing."""
    found = {picture.path: _sidecar(root, picture.path) for picture in pictures}
    return {path: text for path, text in found.items() if text}


def _sidecar(root: Path, relative: str) -> str:
    for ending in (".txt", ".caption"):
        path = inside(root, str(Path(relative).with_suffix(ending)))
        if path.is_file():
            return _read_text(path)
    return ""


def _read_text(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        limit = _MAX_BYTES // 1024
        raise BadInput(f"The caption file {path.name} is over {limit} KiB.", "A caption is a line of text.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"The caption file {path.name} is not UTF-8 text.", "Save it as UTF-8.") from error
    return " ".join(text.replace("\0", " ").split())


def _caption(measurement: Measurement, sidecar: str | None, options: CaptionOptions) -> str:
    if sidecar is None:
        words = _words(measurement, options.trigger)
        text = _PLACEHOLDER.sub(lambda match: words[match[1].strip()], options.template)
    else:
        has_trigger = options.trigger.strip().lower() in sidecar.lower()
        text = sidecar if has_trigger else f"{options.trigger}, {sidecar}"
    return _tidy(", ".join((options.prefix, text, options.suffix)))


def _words(measurement: Measurement, trigger: str) -> dict[str, str]:
    count = facts.counted(measurement, 0.5)
    brightness = measurement["brightness"]
    return {
        "trigger": trigger,
        "framing": facts.framing(measurement) or "",
        "view": _VIEW_WORDS.get(facts.view(measurement) or "", ""),
        "light": "dark" if brightness < 0.2 else "bright" if brightness > 0.75 else "",
        "characters": "solo" if count == 1 else f"{count} characters" if count else "",
    }


def _tidy(text: str) -> str:
    """Commas with nothing between them go."""
    parts = (" ".join(part.split()) for part in text.split(","))
    return ", ".join(part for part in parts if part)


def _check_template(template: str) -> None:
    for name in (match.strip() for match in _PLACEHOLDER.findall(template)):
        if name not in _FIELDS:
            near = get_close_matches(name, _FIELDS, 1)
            hint = f"Did you mean {{{near[0]}}}?" if near else f"Known: {', '.join(_FIELDS)}."
            raise BadInput(f"The caption template has an unknown placeholder {{{name}}}.", hint)
    if "{" in _PLACEHOLDER.sub("", template) or "}" in _PLACEHOLDER.sub("", template):
        raise BadInput("The caption template has a single curly bracket.", "Write placeholders as {name}.")
