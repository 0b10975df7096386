"""`curate` and `caption`: pictures in, explained decisions and captions out."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..core.errors import BadInput
from ..core.files import inside, write_text
from .output import JsonFlag, emit, progress, table

if TYPE_CHECKING:
    from ..core.types import Curation, Picture

Folder = Annotated[Path, typer.Argument(help="Folder with pictures, sub-folders included.", show_default=False)]
Detector = Annotated[str, typer.Option(help="Face detector: auto, atelier, yunet.")]
ModelsDir = Annotated[Path | None, typer.Option(help="Folder with detector files (also LORA_ATELIER_MODELS).")]
Preset = Annotated[str, typer.Option(help="Set of rules: character, strict, lenient, portrait, style.")]
Truth = Annotated[Path | None, typer.Option(help="Labels (JSON lines) to measure precision and recall against.")]
_POOL_FROM = 400  # pictures: below, starting processes costs more than it saves


def register(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command("curate", rich_help_panel="Stages")(curate)
    app.command("caption", rich_help_panel="Stages")(caption)


def curate(
    folder: Folder,
    out: Annotated[Path, typer.Option(help="Where decisions.jsonl and the report go.")] = Path("curated"),
    preset: Preset = "character",
    rule: Annotated[
        list[str] | None, typer.Option(help="NAME.FIELD=VALUE changes a threshold, NAME=off drops a rule; repeatable.")
    ] = None,
    detector: Detector = "auto",
    models_dir: ModelsDir = None,
    truth: Truth = None,
    workers: Annotated[int, typer.Option(min=0, help="Pictures measured at once; 0 = one per core.")] = 0,
    executor: Annotated[str | None, typer.Option(help="inline, threads or pool (processes); default by size.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Measure the pictures of a folder and decide which to keep, with every reason.

    Your own verdicts win: put them as {"path": "keep" or "reject"} into OUT/overrides.json.
    """
    started = time.monotonic()
    wanted = (preset, tuple(rule or ()))
    curation = measure_and_decide(folder, out, *wanted, detector, models_dir, workers=workers, executor=executor)
    scores = _against(curation, truth)
    document = _publish(curation, out, started)
    if scores is not None:
        document["truth"] = scores
    emit(document, as_json, _summary(document))


def measure_and_decide(
    folder: Path,
    out: Path,
    preset: str,
    rule: tuple[str, ...],
    detector: str,
    models_dir: Path | None,
    *,
    workers: int = 0,
    executor: str | None = None,
) -> Curation:
    """The whole of curation up to the verdicts; everything that can be refused is refused before measuring starts."""
    from ..core.images import scan
    from ..curation import detectors, measure, rules

    wanted = rules.parse_rule(rule, rules.preset(preset))
    finder = detectors.make(detector, models_dir)
    images = scan(existing_folder(folder), folder.name)
    how = executor or ("pool" if len(images.pictures) >= _POOL_FROM else "threads")
    with progress("Measuring") as report:
        measured = measure.measure_set(
            images, finder, cache=out / "measurements.sqlite", workers=workers, executor=how, progress=report
        )
    return rules.apply_rules(measured, wanted)


def existing_folder(folder: Path) -> Path:
    """The folder as an absolute path, or BadInput when it is not one."""
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise BadInput(f"The folder {str(folder)!r} {what}.", "Give the folder that holds the pictures.")
    return folder.resolve()


def _against(curation: Curation, truth: Path | None) -> dict[str, Any] | None:
    if truth is None:
        return None
    from ..curation.evaluate import against_truth

    return against_truth(curation, truth)


def _publish(curation: Curation, out: Path, started: float) -> dict[str, Any]:
    from ..curation import decisions

    seconds = time.monotonic() - started
    return decisions.summary(decisions.publish(curation, out, seconds), seconds)


def _summary(document: dict[str, Any]) -> str:
    lines = [
        f"{document['images']} files: {document['kept']} kept, {document['rejected']} rejected, "
        f"{document['doubt']} in doubt, {document['skipped']} skipped ({document['seconds']:.1f} s)"
    ]
    rows = sorted(document["by_rule"].items(), key=lambda item: -item[1])
    if rows:
        lines.append(table([(rule, str(count)) for rule, count in rows], indent="  "))
    if "truth" in document:
        lines.append(truth_table(document["truth"]))
    return "\n".join([*lines, f"report: {document['report']}"])


def truth_table(scores: dict[str, Any]) -> str:
    """Precision and recall per rule as text."""
    named = [("keep", scores["keep"]), *scores["rules"].items()]
    rows = [(name, _percent(score["precision"]), _percent(score["recall"])) for name, score in named]
    return table([("", "precision", "recall"), *rows], indent="  ")


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def caption(
    folder: Folder,
    out: Annotated[Path | None, typer.Option(help="Where the .txt files go; default: beside the pictures.")] = None,
    trigger: Annotated[str, typer.Option(help="Word that calls the LoRA; put in front.")] = "",
    template: Annotated[str, typer.Option(help="May name {trigger} {framing} {view} {light} {characters}.")] = (
        "{trigger}, {framing}, {view}"
    ),
    prefix: Annotated[str, typer.Option(help="Text before every caption.")] = "",
    suffix: Annotated[str, typer.Option(help="Text after every caption.")] = "",
    sidecars: Annotated[bool, typer.Option(help="Build on .txt files that are there already.")] = True,
    overwrite: Annotated[bool, typer.Option(help="Replace .txt files that are there already.")] = False,
    detector: Detector = "auto",
    models_dir: ModelsDir = None,
    as_json: JsonFlag = False,
) -> None:
    """Write a caption (.txt) for every picture of a folder, from a template of what was measured."""
    from ..core.images import scan
    from ..curation import captions, detectors, measure

    options = captions.CaptionOptions(template, trigger, sidecars, prefix, suffix)
    finder = detectors.make(detector, models_dir)
    images = scan(existing_folder(folder), folder.name)
    with progress("Measuring") as report:
        captioned = captions.caption(measure.measure_set(images, finder, progress=report), options)
    target = out or Path(images.root)
    rows = [_write_caption(target, picture, overwrite) for picture in captioned.images.pictures]
    written = sum(row["written"] for row in rows)
    document = {"pictures": len(rows), "written": written, "left": len(rows) - written, "captions": rows}
    left = f", {len(rows) - written} left as they were" if written < len(rows) else ""
    emit(document, as_json, f"{written} captions written{left}: {target}")


def _write_caption(target: Path, picture: Picture, overwrite: bool) -> dict[str, Any]:
    path = inside(target, Path(picture.path).with_suffix(".txt"))
    write = overwrite or not path.exists()
    if write:
        write_text(path, f"{picture.caption}\n")
    return {"path": picture.path, "caption": picture.caption, "file": str(path), "written": write}
