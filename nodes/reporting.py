"""The Run Card: one page from the pictures to the exported files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..core.report import Bar, Figure, Funnel, Section, render_report
from . import host
from .options import ExportedLora
from .sheets import contact_sheet

if TYPE_CHECKING:
    from ..core.rundir import RunDir
    from ..core.types import Choice, Curation, LoraFile


def write_run_card(run: RunDir, curation: Curation | None, choice: Choice | None, lora: LoraFile | None) -> Path:
    """Write `report.html` into the run directory and return its path; chapters without material are left out."""
    chapters = [curation_section(curation)] if curation is not None else []
    chapters += run_sections(run, choice)
    if isinstance(lora, ExportedLora):
        from ..export.sections import export_section
        from .exporting import result_of

        chapters.append(export_section(result_of(lora)))
    return render_report(str(run.status().get("name") or run.path.name), chapters, run.report_file, lead=_lead(choice))


def run_sections(run: RunDir, choice: Choice | None) -> list[Section]:
    """What the run itself has to show, with or without a recommendation."""
    from ..validation import sections

    if choice is not None:
        return sections.all_sections(run, choice)
    chapters = [sections.grid(run)] if run.samples() else []
    if run.ledger("step") or run.ledger("fixed_loss"):
        chapters.append(sections.loss(run))
    return [*chapters, sections.run_facts(run)]


def curation_section(curation: Curation) -> Section:
    """From all pictures to the kept ones, with the rules that took the others."""
    from ..curation.report import funnel

    stages = funnel(curation)
    kinds = ["step"] * (len(stages) - 1) + ["kept"]
    bars = [Bar(stage.label, stage.left, stage.note, kind) for stage, kind in zip(stages, kinds, strict=True)]
    examples = Figure(contact_sheet(curation), "Examples of each pile.", wide=True)
    return Section(
        id="curation",
        title="Pictures",
        intro="Every file of the folder with its verdict; the curation report shows each one with all reasons.",
        facts=(("Folder", curation.images.root_id), ("Detector", curation.detector), *_report(curation)),
        figures=(Funnel(bars, "How many pictures are left after each rule."), examples),
    )


def _report(curation: Curation) -> tuple[tuple[str, str], ...]:
    path = host.existing(Path(curation.out) / "report.html") if curation.out else None
    return (("Curation report", str(path)),) if path else ()


def _lead(choice: Choice | None) -> str:
    from .validation import describe_choice

    return describe_choice(choice).splitlines()[0].capitalize() + "." if choice else ""
