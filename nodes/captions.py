"""Caption stage: give every kept picture its words and split the set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import host
from . import sockets as wires
from .inputs import Input, Node, Output, advanced, number, of_field, seed, switch, text, wire

if TYPE_CHECKING:
    from ..core.types import Curation


class CaptionDataset(Node):
    """Captions from a template of measured facts, or from text files beside the pictures."""

    STAGE = "Captions"
    DESCRIPTION = (
        "Gives every picture a caption: the text file beside it, or a template filled with what was measured. "
        "Facts that are not known of a picture are left out together with their comma."
    )
    SEARCH_ALIASES = ("caption", "tagging", "trigger word")
    OUTPUTS = (Output(wires.CURATION, "curation", "The same pictures with captions."),)

    @classmethod
    def inputs(cls) -> dict[str, Input]:
        from ..curation.captions import CaptionOptions

        return {
            "curation": wire(wires.CURATION, "Measured (and filtered) pictures."),
            "trigger": text("", "The word that will call the LoRA; put in front of every caption."),
            "template": of_field(
                CaptionOptions,
                "template",
                "Caption for pictures without a text file. May name {trigger} {framing} {view} {light} {characters}.",
            ),
            "use_sidecars": switch(True, "Take the .txt file beside a picture as its caption where there is one."),
            "prefix": advanced(text("", "Text before every caption.")),
            "suffix": advanced(text("", "Text after every caption.")),
        }

    def run(self, curation: Curation, **values: Any) -> dict[str, Any]:
        from ..curation.captions import CaptionOptions, caption

        captioned = caption(curation, CaptionOptions(**values))
        examples = [picture.caption or "" for picture in captioned.kept()[:3]]
        return host.show((captioned,), text="\n".join(examples))


class PrepareDataset(Node):
    """Split the kept pictures into training and held-out ones."""

    STAGE = "Captions"
    DESCRIPTION = (
        "Turns the kept pictures into a training set and holds some out, so that learning can be told from copying. "
        "Near duplicates stay on the same side."
    )
    SEARCH_ALIASES = ("train test split", "validation split", "prepare dataset", "trigger word")
    OUTPUTS = (Output(wires.DATASET, "dataset", "Captioned pictures, split into training and held-out."),)

    @classmethod
    def inputs(cls) -> dict[str, Input]:
        return {
            "curation": wire(wires.CURATION, "Captioned pictures; only kept ones are used."),
            "name": text("my-character", "Name of the data set; also the start of the run's folder name."),
            "trigger_words": text("", "Words that call the LoRA, separated by commas; stored in the exported file."),
            "held_out": number(0.15, 0.0, 0.9, "Share of the pictures that is kept away from training (0-1)."),
            "seed": seed("Decides which pictures are held out."),
        }

    def run(self, curation: Curation, name: str, trigger_words: str, held_out: float, seed: int) -> dict[str, Any]:
        from ..curation.prepare import split

        words = tuple(word.strip() for word in trigger_words.split(",") if word.strip())
        dataset = split(curation, name=name, held_out=held_out, seed=seed, trigger_words=words)
        train, away = len(dataset.split("train")), len(dataset.split("heldout"))
        return host.show((dataset,), text=f"{train} pictures to train on, {away} held out")
