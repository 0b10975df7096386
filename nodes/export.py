"""Export stage: name the LoRA, write it for other programs, look into files, and sum everything up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import host
from . import sockets as wires
from .inputs import Input, Node, Output, advanced, choice, integer, number, optional, switch, text, wire
from .validation import opened

if TYPE_CHECKING:
    from ..core.types import Choice, Curation, LoraCard, LoraFile, Run

_LICENCES = ("", "CC0-1.0", "CC-BY-4.0", "CC-BY-NC-4.0", "Apache-2.0", "MIT", "OpenRAIL-M", "other")


class MakeLoraCard(Node):
    """What the author says about the LoRA."""

    STAGE = "Export"
    DESCRIPTION = (
        "Collects what goes into the LoRA's header and side files: title, author, licence, words, description."
    )
    SEARCH_ALIASES = ("metadata", "model card", "licence", "license")
    OUTPUTS = (Output(wires.CARD, "card", "For Export LoRA."),)

    @classmethod
    def inputs(cls) -> dict[str, Input]:
        return {
            "lora_title": text("My LoRA", "How the LoRA is called in lists."),
            "author": text("", "Who made it."),
            "licence": choice(_LICENCES, "Under which terms it may be used; an SPDX name. Empty = not said."),
            "trigger_words": text("", "Words that call it, separated by commas; empty = those of the training set."),
            "description": text("", "What it draws and how to use it.", multiline=True),
            "strength": number(1.0, -4.0, 4.0, "Recommended strength.", 0.05),
            "tags": advanced(text("", "Words to find it by, separated by commas.")),
        }

    def run(self, lora_title: str, trigger_words: str, tags: str, **values: Any) -> dict[str, Any]:
        from ..core.types import LoraCard

        card = LoraCard(title=lora_title, trigger_words=_words(trigger_words), tags=_words(tags), **values)
        return host.show((card,))


def _words(line: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in line.split(",") if word.strip())


class ExportLora(Node):
    """Write the chosen checkpoint for the programs that will use it."""

    STAGE = "Export"
    DESCRIPTION = (
        "Writes the recommended (or a given) checkpoint in the key formats that the wanted programs read, with "
        "metadata and preview, and checks every file by loading it. For ComfyUI it lands in models/loras."
    )
    SEARCH_ALIASES = ("save lora", "convert lora", "kohya", "a1111", "forge", "diffusers")
    OUTPUTS = (
        Output(wires.LORA, "lora", "The exported files."),
        Output(wires.STRING, "lora_name", "Name under which core LoRA loaders list the file."),
    )
    OUTPUT_NODE = True

    @classmethod
    def inputs(cls) -> dict[str, Input]:
        from ..export.targets import TARGETS

        return {
            "run": wire(wires.RUN, "The run whose checkpoint is exported."),
            "name": text("my-lora", "File name without ending."),
            **{
                name: switch(name == "comfyui", f"Write what {target.title} reads.") for name, target in TARGETS.items()
            },
            "step": integer(0, 0, 10_000_000, "Step of the checkpoint; 0 = the recommended one, else the last."),
            "choice": optional(wire(wires.CHOICE, "Recommendation to follow while step is 0.")),
            "card": optional(wire(wires.CARD, "Title, author, licence and words.")),
        }

    def run(
        self, run: Run, name: str, step: int, choice: Choice | None = None, card: LoraCard | None = None, **flags: bool
    ) -> dict[str, Any]:
        from .exporting import export_run, exported_wire

        targets = [target for target, wanted in flags.items() if wanted]
        result = export_run(opened(run), name, step or _recommended(choice), card, targets)
        lora = exported_wire(result)
        lines = [f"{check.target}: {check.message}" for check in result.checks]
        return host.show((lora, lora.name), text="\n".join([lora.name, *lines]))


def _recommended(choice: Choice | None) -> int:
    return (choice.recommended_step or choice.safe_step or 0) if choice else 0


class InspectLora(Node):
    """What is inside a LoRA file."""

    STAGE = "Export"
    DESCRIPTION = (
        "Reads a LoRA's header: key format, family, rank, alpha, layers, metadata, and whether all values are finite."
    )
    SEARCH_ALIASES = ("lora metadata", "lora info", "trigger words")
    OUTPUTS = (Output(wires.STRING, "facts", "What was found, as JSON."),)
    OUTPUT_NODE = True

    @classmethod
    def inputs(cls) -> dict[str, Input]:
        return {"lora": choice([host.NEWEST, *host.models("loras")], "A file below models/loras.")}

    @classmethod
    def VALIDATE_INPUTS(cls, lora: str) -> bool | str:
        return True if lora in (None, host.NEWEST, *host.models("loras")) else f"There is no LoRA {lora!r}."

    @classmethod
    def IS_CHANGED(cls, lora: str) -> str:
        facts = host.resolve_model("loras", lora).stat()
        return f"{facts.st_size} {facts.st_mtime_ns}"

    def run(self, lora: str) -> dict[str, Any]:
        import json

        from ..export.inspect import inspect_lora

        facts = json.dumps(inspect_lora(host.resolve_model("loras", lora)), ensure_ascii=False, indent=1)
        return host.show((facts,), text=facts)


class RunCard(Node):
    """One report of everything."""

    STAGE = "Export"
    DESCRIPTION = (
        "Writes report.html: the funnel of pictures, loss, validation grid, quality curves with the recommended step, "
        "before and after, and the exported files. One file that can be sent around."
    )
    SEARCH_ALIASES = ("report", "summary", "run report", "model card")
    OUTPUTS = (Output(wires.STRING, "report", "Path of the report."),)
    OUTPUT_NODE = True

    @classmethod
    def inputs(cls) -> dict[str, Input]:
        return {
            "run": wire(wires.RUN, "The run to report on."),
            "curation": optional(wire(wires.CURATION, "Adds the funnel of pictures.")),
            "choice": optional(wire(wires.CHOICE, "Adds the curves and the recommendation.")),
            "lora": optional(wire(wires.LORA, "Adds the exported files.")),
        }

    def run(
        self,
        run: Run,
        curation: Curation | None = None,
        choice: Choice | None = None,
        lora: LoraFile | None = None,
    ) -> dict[str, Any]:
        from .reporting import write_run_card

        path = write_run_card(opened(run), curation, choice, lora)
        return host.show((str(path),), text=f"{path.parent.name}/{path.name}", report=path)
