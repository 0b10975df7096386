"""Dataset stage: from a folder of pictures to measured, filtered and explained ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import host, listing
from . import sockets as wires
from .inputs import WITH_ID, Input, Node, Output, advanced, choice, number, of_field, switch, text, wire

if TYPE_CHECKING:
    from ..core.types import Curation, ImageSet
    from ..curation.rules import Rule

_CURATION_IN = "Measured pictures with the verdicts so far."


class LoadImageFolder(Node):
    """A folder's pictures, without decoding them."""

    STAGE = "Dataset"
    DESCRIPTION = (
        "Lists the pictures of a folder and its sub-folders. Files that cannot be used (broken, mislabelled, too big) "
        "are listed with the reason instead of stopping the graph."
    )
    SEARCH_ALIASES = ("image folder", "dataset", "load pictures", "batch load")
    OUTPUTS = (Output(wires.IMAGES, "images", "The folder's pictures and the files that were skipped."),)

    @classmethod
    def inputs(cls) -> dict[str, Input]:
        return {
            "folder": choice(
                list(host.image_folders()),
                "Folder below ComfyUI's input folder, or the sample of drawn film frames that comes with the pack. "
                "More folders can be offered through extra_model_paths.yaml (key atelier_images).",
            )
        }

    @classmethod
    def VALIDATE_INPUTS(cls, folder: str) -> bool | str:
        return True if folder is None or folder in host.image_folders() else f"There is no picture folder {folder!r}."

    @classmethod
    def IS_CHANGED(cls, folder: str) -> str:
        return listing.digest(host.resolve_folder(folder))

    def run(self, folder: str) -> dict[str, Any]:
        from ..core.images import scan

        images = scan(host.resolve_folder(folder), folder)
        skipped = f", {len(images.skipped)} files skipped" if images.skipped else ""
        return host.show((images,), text=f"{len(images.pictures)} pictures{skipped}")


class MeasureImages(Node):
    """Everything the filters look at, measured once per picture content."""

    STAGE = "Dataset"
    DESCRIPTION = (
        "Finds characters and faces and measures sharpness, size, view, light and framing of every picture. Results "
        "are cached by picture content, so thresholds can be moved afterwards without measuring again."
    )
    SEARCH_ALIASES = ("face detection", "analyse dataset", "analyze dataset", "image quality")
    OUTPUTS = (Output(wires.CURATION, "curation", "The pictures with their measurements; all are kept so far."),)
    HIDDEN = WITH_ID

    @classmethod
    def inputs(cls) -> dict[str, Input]:
        from ..curation.detectors import NAMES

        return {
            "images": wire(wires.IMAGES, "Pictures to measure."),
            "detector": choice(
                NAMES,
                "Who finds the faces: atelier = the pack's own network for drawings, yunet = OpenCV's network for "
                "photographs (its file must be in models/lora_atelier), auto = whichever fits the picture.",
            ),
        }

    def run(self, images: ImageSet, detector: str, unique_id: str | None = None) -> dict[str, Any]:
        from ..curation import detectors, measure

        finder = detectors.make(detector, folders=host.detector_folders())
        report = host.progress(unique_id)
        curation = measure.measure_set(
            images,
            finder,
            cache=host.measurement_cache(),
            progress=lambda done, total: report(done, total, text=f"{done} of {total} pictures"),
            check=host.check_interrupt,
        )
        found = sum(bool(values.get("subjects")) for values in curation.measurements.values())
        return host.show((curation,), text=f"{len(curation.measurements)} pictures measured, a face found in {found}")


def _filtered(curation: Curation, rule: Rule) -> dict[str, Any]:
    """Apply one rule and say what it did."""
    from ..curation.rules import apply_rule

    changed = apply_rule(curation, rule)
    against = [decision for decision in changed.decisions if any(why.rule == rule.name for why in decision.reasons)]
    rejected = sum(decision.decision == "reject" for decision in against)
    text = f"{rejected} rejected, {len(against) - rejected} to look at, {len(changed.kept())} kept in all"
    return host.show((changed,), text=text)


class _Filter(Node):
    """Common to the filters: one curation in, one out."""

    STAGE = "Dataset"
    DESCRIPTION = ""
    OUTPUTS = (Output(wires.CURATION, "curation", "The same pictures with this filter's verdicts and reasons added."),)


class FilterCharacterCount(_Filter):
    """Keep pictures with the wanted number of characters."""

    DESCRIPTION = (
        "Rejects pictures with too many or too few characters. A small passer-by in the background need not count."
    )
    SEARCH_ALIASES = ("multiple people", "solo", "face count")

    @classmethod
    def inputs(cls) -> dict[str, Input]:
        from ..curation.rules import CharacterCount as Rule_

        return {
            "curation": wire(wires.CURATION, _CURATION_IN),
            "minimum": of_field(Rule_, "minimum", "Fewest characters a picture may show.", top=20),
            "maximum": of_field(Rule_, "maximum", "Most characters a picture may show.", top=20),
            "dominance": of_field(
                Rule_, "dominance", "A further face counts from this share of the largest face's height (0-1)."
            ),
            "minimum_score": advanced(
                of_field(Rule_, "minimum_score", "Faces the detector is less sure of than this (0-1) do not count.")
            ),
        }

    def run(self, curation: Curation, **values: Any) -> dict[str, Any]:
        from ..curation.rules import make_rule

        return _filtered(curation, make_rule("character_count", **values))


class FilterFaceDetail(_Filter):
    """Keep pictures whose main face can be read."""

    DESCRIPTION = "Rejects pictures whose main face is too small, too blurred, or hides its eyes or mouth."
    SEARCH_ALIASES = ("blurry face", "sharpness", "face size")

    @classmethod
    def inputs(cls) -> dict[str, Input]:
        from ..curation.rules import FaceDetail as Rule_

        return {
            "curation": wire(wires.CURATION, _CURATION_IN),
            "minimum_height": of_field(
                Rule_, "minimum_height", "Lowest face height in pixels, at the picture size below.", step=1, top=2048
            ),
            "minimum_sharpness": of_field(
                Rule_,
                "minimum_sharpness",
                "Lowest sharpness: variance of the Laplacian inside the face, scaled to 96x96 pixels.",
                step=1,
                top=10000,
            ),
            "minimum_eyes": of_field(
                Rule_, "minimum_eyes", "Lowest probability (0-1) that the eyes are visible, where the detector knows."
            ),
            "minimum_mouth": of_field(
                Rule_, "minimum_mouth", "Lowest probability (0-1) that the mouth is visible, where the detector knows."
            ),
            "resolution": advanced(
                of_field(
                    Rule_,
                    "resolution",
                    "Face height is counted after the picture is reduced to this many pixels on its longest side.",
                    step=16,
                    top=8192,
                )
            ),
        }

    def run(self, curation: Curation, **values: Any) -> dict[str, Any]:
        from ..curation.rules import make_rule

        return _filtered(curation, make_rule("face_detail", **values))


class FilterView(_Filter):
    """Keep pictures seen from the wanted directions."""

    DESCRIPTION = "Rejects characters seen from behind and dark silhouettes; profiles are your choice."
    SEARCH_ALIASES = ("from behind", "back view", "silhouette", "profile")

    @classmethod
    def inputs(cls) -> dict[str, Input]:
        from ..curation.rules import View as Rule_

        return {
            "curation": wire(wires.CURATION, _CURATION_IN),
            "three_quarter": switch(True, "Keep three-quarter views.", "keep", "reject"),
            "profile": switch(True, "Keep faces seen from the side.", "keep", "reject"),
            "back": switch(False, "Keep characters seen from behind.", "keep", "reject"),
            "silhouette_luma": of_field(
                Rule_,
                "silhouette_luma",
                "A head darker than this (0-1), even and before a brighter ground: silhouette.",
            ),
            "silhouette_spread": advanced(
                of_field(Rule_, "silhouette_spread", "How even: standard deviation of a silhouette's brightness (0-1).")
            ),
            "ground_ratio": advanced(
                of_field(Rule_, "ground_ratio", "How many times as bright the surroundings are.", step=0.1, top=20)
            ),
        }

    def run(self, curation: Curation, three_quarter: bool, profile: bool, back: bool, **values: Any) -> dict[str, Any]:
        from ..curation.rules import make_rule

        wanted = {"front": True, "three_quarter": three_quarter, "profile": profile, "back": back}
        allow = tuple(name for name, keep in wanted.items() if keep)
        return _filtered(curation, make_rule("view", allow=allow, **values))


class FilterSubjectSize(_Filter):
    """Keep pictures in which the character is large enough."""

    DESCRIPTION = "Rejects pictures in which the character is a speck in the landscape, or a face fills too much."
    SEARCH_ALIASES = ("small subject", "distance", "wide shot")

    @classmethod
    def inputs(cls) -> dict[str, Input]:
        from ..curation.rules import SubjectSize as Rule_

        return {
            "curation": wire(wires.CURATION, _CURATION_IN),
            "minimum_subject": of_field(
                Rule_, "minimum_subject", "Lowest height of the visible figure over the frame's height (0-1)."
            ),
            "minimum_face": of_field(
                Rule_, "minimum_face", "Lowest face height over the frame's height (0-1), where no figure was found."
            ),
            "maximum_face": of_field(Rule_, "maximum_face", "Highest face height over the frame's height (0-1)."),
        }

    def run(self, curation: Curation, **values: Any) -> dict[str, Any]:
        from ..curation.rules import make_rule

        return _filtered(curation, make_rule("subject_size", **values))


class FilterFramingConsistency(_Filter):
    """Keep pictures that show the character about equally large."""

    DESCRIPTION = (
        "Learns the usual size of the character from the pictures that the other filters keep, and rejects pictures "
        "far from it, as well as faces cut off by the frame."
    )
    SEARCH_ALIASES = ("framing", "crop", "consistency", "outliers")

    @classmethod
    def inputs(cls) -> dict[str, Input]:
        from ..curation.rules import FramingConsistency as Rule_

        return {
            "curation": wire(wires.CURATION, _CURATION_IN),
            "measure": of_field(Rule_, "measure", "Compare the height of the face or of the whole visible figure."),
            "target": number(0.0, 0.0, 1.0, "Wanted height over the frame's height (0-1); 0 learns it from the set."),
            "width": of_field(
                Rule_, "width", "Half width of the learnt band in robust standard deviations.", step=0.1, top=20
            ),
            "tolerance": of_field(
                Rule_, "tolerance", "The band reaches at least this far: 0.5 = from 1/1.5 to 1.5 times.", top=10
            ),
            "minimum_pictures": advanced(
                of_field(Rule_, "minimum_pictures", "With fewer kept pictures no band is learnt.", top=10000)
            ),
            "edge": advanced(
                of_field(
                    Rule_, "edge", "A face this close to the edge (share of the frame) is cut off; 0 = off.", step=0.001
                )
            ),
        }

    def run(self, curation: Curation, target: float, **values: Any) -> dict[str, Any]:
        from ..curation.rules import make_rule

        return _filtered(curation, make_rule("framing_consistency", target=target or None, **values))


class CurationReport(Node):
    """Write decisions.jsonl and the HTML report, and show the piles."""

    STAGE = "Dataset"
    DESCRIPTION = (
        "Writes the decisions with all reasons (decisions.jsonl) and a self-contained HTML report. Your own verdicts "
        "in overrides.json beside them win over every filter."
    )
    SEARCH_ALIASES = ("curation report", "dataset report", "contact sheet")
    OUTPUTS = (
        Output(wires.CURATION, "curation", "The same pictures, with your own verdicts applied."),
        Output(wires.IMAGE, "sheet", "Contact sheet: some kept, rejected and doubtful pictures."),
        Output(wires.STRING, "report", "Path of the HTML report."),
    )
    OUTPUT_NODE = True

    @classmethod
    def inputs(cls) -> dict[str, Input]:
        return {
            "curation": wire(wires.CURATION, "Filtered pictures."),
            "name": text("dataset", "Folder name of this report under output/lora_atelier/curation."),
        }

    @classmethod
    def IS_CHANGED(cls, name: str, **_: Any) -> str:
        from ..curation.rules import OVERRIDES_NAME

        overrides = host.named_dir("curation", name) / OVERRIDES_NAME
        return overrides.read_text(encoding="utf-8", errors="replace") if overrides.is_file() else ""

    def run(self, curation: Curation, name: str) -> dict[str, Any]:
        from ..curation import decisions
        from .sheets import contact_sheet

        published = decisions.publish(curation, host.named_dir("curation", name))
        facts = decisions.summary(published, 0.0)
        piles = ", ".join(f"{facts[pile]} {pile}" for pile in ("kept", "rejected", "doubt", "skipped"))
        rules = "\n".join(f"{rule}: {count}" for rule, count in facts["by_rule"].items())
        sheet = contact_sheet(published)
        result = (published, host.to_image_tensor([sheet]), facts["report"])
        return host.show(
            result,
            text=f"{facts['images']} files: {piles}\n{rules}",
            images=[sheet],
            report=host.existing(facts["report"]),
        )
