"""Would it load? Judged from names, shapes and values alone, plus an optional real load through diffusers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import BadInput
from .base import Shapes, base_modules
from .convert import Lora, Module, read_lora
from .families import FAMILIES

ABSURD_NORM = 1e4  # Frobenius norm of one layer's whole change; trained LoRAs stay below about 1e2


@dataclass(frozen=True)
class Check:
    """One verdict on one file: `message` is a sentence, `applied` of `total` modules fit the base model."""

    target: str
    ok: bool
    message: str
    applied: int = 0
    total: int = 0
    unused: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "target": self.target,
            "ok": self.ok,
            "message": self.message,
            "applied": self.applied,
            "total": self.total,
            "unused": list(self.unused),
        }


def check_lora(lora: Lora, shapes: Shapes | None, *, target: str = "source") -> Check:
    """Judge names, values and, when the base model's shapes are known, whether every module applies to it."""
    total = len(lora.modules)
    fault = _names_fault(lora) or _values_fault(lora)
    if fault:
        return Check(target, False, fault, 0, total)
    if shapes is None:
        return Check(target, True, f"{total} modules read; no base model was given to compare them with.", total, total)
    unused = tuple(name for name, module in lora.modules.items() if not fits(module, shapes.get(name)))
    applied = total - len(unused)
    if not unused:
        return Check(target, True, f"{applied} of {total} modules apply to this base model.", applied, total)
    return Check(target, False, _misfit(lora, shapes, unused), applied, total, unused)


def check_file(path: Path, base: Path | None, family: str, *, target: str = "source") -> Check:
    """`check_lora` for a file on disk and a base model on disk."""
    return check_lora(read_lora(path, family), base_modules(base, family) if base else None, target=target)


def fits(module: Module, base: tuple[int, ...] | None) -> bool:
    """Does the layer take this change? A 1x1 convolution and a linear layer are the same thing to every loader."""
    if base is None:
        return False
    kernel, base_kernel = module.down.shape[2:], base[2:]
    same_kernel = kernel == base_kernel or set(kernel + base_kernel) <= {1}
    return module.up.shape[0] == base[0] and module.down.shape[1] == base[1] and same_kernel


def delta_norm(module: Module) -> float:
    """Frobenius norm of up @ down * alpha / rank without building the product: sqrt(tr(UᵀU · DDᵀ))."""
    down = module.down.reshape(module.rank, -1).astype(np.float64)
    up = module.up.reshape(-1, module.rank).astype(np.float64)
    squared = float(np.sum((up.T @ up) * (down @ down.T)))
    return abs(module.alpha) / module.rank * max(squared, 0.0) ** 0.5


def load_with_diffusers(path: Path, base: Path, *, weight_name: str | None = None) -> Check:
    """Really load the file into the base model with diffusers and compare what arrived (imports torch)."""
    from diffusers.pipelines.pipeline_utils import DiffusionPipeline

    pipe = DiffusionPipeline.from_pretrained(base, local_files_only=True)
    file = path / (weight_name or "pytorch_lora_weights.safetensors") if path.is_dir() else path
    lora = read_lora(file)
    pipe.load_lora_weights(str(file.parent), weight_name=file.name, adapter_name="check")
    arrived = loaded_modules(pipe, "check")
    unused = tuple(name for name, module in lora.modules.items() if not _same(module, arrived.get(name)))
    applied, total = len(lora.modules) - len(unused), len(lora.modules)
    good = not unused and len(arrived) == total
    return Check("diffusers", good, f"diffusers loaded {applied} of {total} modules.", applied, total, unused)


def loaded_modules(pipe: Any, adapter: str) -> dict[str, Module]:
    """The LoRA layers that stand in a pipeline after loading, by canonical name."""
    found: dict[str, Module] = {}
    for component in ("unet", "text_encoder", "text_encoder_2"):
        model = getattr(pipe, component, None)
        for name, layer in model.named_modules() if model is not None else ():
            if adapter in getattr(layer, "lora_A", ()):
                path = name if component == "unet" or name.startswith("text_") else f"text_model.{name}"
                down, up = (
                    part[adapter].weight.detach().float().cpu().numpy() for part in (layer.lora_A, layer.lora_B)
                )
                found[f"{component}.{path}"] = Module(down, up, layer.scaling[adapter] * down.shape[0])
    return found


def require(check: Check) -> Check:
    """The check itself, or BadInput with its sentence when it failed."""
    if not check.ok:
        raise BadInput(f"The LoRA was not exported: {check.message}", "Inspect it with `lora-atelier inspect FILE`.")
    return check


def _same(module: Module, other: Module | None) -> bool:
    """Equal up to storage dtype; the scale is compared because alpha is lost most easily."""
    if other is None or module.down.size != other.down.size or module.up.size != other.up.size:
        return False
    close = np.allclose(module.down.ravel(), other.down.ravel(), atol=1e-6)
    close = close and np.allclose(module.up.ravel(), other.up.ravel(), atol=1e-6)
    return bool(close) and abs(module.alpha - other.alpha) <= 1e-3 * max(1.0, abs(module.alpha))


def _names_fault(lora: Lora) -> str:
    if lora.problems:
        more = f" (and {len(lora.problems) - 3} more)" if len(lora.problems) > 3 else ""
        return f"{len(lora.problems)} tensors cannot be converted: {'; '.join(lora.problems[:3])}{more}."
    return "" if lora.modules else "It holds no LoRA layer at all."


def _values_fault(lora: Lora) -> str:
    bad = [n for n, m in lora.modules.items() if not (_finite(m.down) and _finite(m.up) and np.isfinite(m.alpha))]
    if bad:
        return f"{len(bad)} of {len(lora.modules)} modules hold NaN or infinity (first: {bad[0]})."
    norms = {name: delta_norm(module) for name, module in lora.modules.items()}
    if not any(norms.values()):
        return "It changes nothing: every layer is zero."
    absurd = [name for name, norm in norms.items() if norm > ABSURD_NORM]
    if absurd:
        worst = max(absurd, key=lambda name: norms[name])
        return f"{len(absurd)} modules change their layer absurdly much ({worst}: norm {norms[worst]:.3g})."
    return ""


def _finite(array: np.ndarray) -> bool:
    return bool(np.isfinite(array).all())


def _misfit(lora: Lora, shapes: Shapes, unused: tuple[str, ...]) -> str:
    total, applied = len(lora.modules), len(lora.modules) - len(unused)
    sentence = f"Only {applied} of {total} modules apply to this base model"
    wrong_size = [name for name in unused if name in shapes]
    if wrong_size:
        name = wrong_size[0]
        module = lora.modules[name]
        wanted = (module.up.shape[0], *module.down.shape[1:])
        sentence += f"; {len(wrong_size)} have another size (first: {name} is {wanted}, the base has {shapes[name]})"
    if missing := [name for name in unused if name not in shapes]:
        sentence += f"; {len(missing)} do not exist there (first: {missing[0]})"
    return f"{sentence}.{_family_hint(lora)}"


def _family_hint(lora: Lora) -> str:
    widths: Mapping[int, str] = {family.context: family.title for family in FAMILIES.values()}
    for name, module in lora.modules.items():
        if name.endswith("attn2.to_k") and module.down.shape[1] in widths:
            return f" The LoRA looks like one for {widths[module.down.shape[1]]}."
    return ""
