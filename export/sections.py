"""The export's chapter of a report: which file went where, and whether it loads there."""

from __future__ import annotations

from pathlib import Path

from ..core.report import Section, Table
from .families import FAMILIES
from .publish import ExportResult
from .targets import TARGETS


def export_section(result: ExportResult) -> Section:
    """Facts about the LoRA, the load check of every target, and the written files as a tree per target."""
    lora, family = result.lora, FAMILIES[result.lora.family]
    facts = [("Name", lora.name), ("Base family", family.title), ("SHA-256", lora.sha256)]
    if lora.trigger_words:
        facts.append(("Trigger words", ", ".join(lora.trigger_words)))
    checks = Table(
        ("Target", "Loads", "Load check", "How to use it"),
        [(TARGETS[c.target].title, c.ok, c.message, (result.hints or {}).get(c.target, "")) for c in result.checks],
    )
    trees = [
        Table((TARGETS[name].title, "Bytes"), tree(files), caption=f"Files for {TARGETS[name].title}")
        for name, files in lora.files.items()
    ]
    return Section(
        id="export",
        title="Exported files",
        intro=f"One LoRA, written for {len(lora.files)} programs; every file was read back and checked.",
        facts=tuple(facts),
        tables=(checks, *trees),
        notes=tuple(f"Kept as you left it: {Path(path).name}" for path in result.kept),
    )


def tree(files: list[str]) -> list[tuple[str, int | None]]:
    """(indented name, size in bytes) rows from the target's folder down to its files."""
    paths = [Path(file) for file in files]
    folder = paths[0].parent
    shown = "/".join(folder.parts[-3:])
    rows: list[tuple[str, int | None]] = [(f"{shown}/", None)]
    for index, path in enumerate(paths):
        branch = "└─ " if index == len(paths) - 1 else "├─ "
        rows.append((branch + path.name, path.stat().st_size if path.exists() else None))
    return rows
