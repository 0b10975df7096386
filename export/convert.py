"""Read a LoRA of any known spelling into one form, and write it as kohya, diffusers/peft or ComfyUI tensors."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import BadInput
from ..core.files import read_json
from ..core.tensorfile import Encoded, encode, load, read_header
from . import keys as names
from .families import FAMILIES, family_of, guess_family

Tensors = dict[str, np.ndarray | Encoded]
DTYPES = {"fp16": "F16", "fp32": "F32", "bf16": "BF16"}
ADAPTER_METADATA = "lora_adapter_metadata"  # diffusers' name for its peft settings in the header


@dataclass(frozen=True)
class Module:
    """One adapted layer: `down` (rank, in, ...) and `up` (out, rank, ...); it adds up @ down * alpha / rank."""

    down: np.ndarray
    up: np.ndarray
    alpha: float
    dtype: str = "F32"

    @property
    def rank(self) -> int:
        return self.down.shape[0]


@dataclass(frozen=True)
class Lora:
    """A LoRA in one form: modules by `component.diffusers_path`; `problems` name every tensor not understood."""

    modules: dict[str, Module]
    metadata: dict[str, str] = field(default_factory=dict)
    format: names.Format | None = None
    family: str | None = None
    problems: tuple[str, ...] = ()


def read_lora(path: Path, family: str | None = None) -> Lora:
    """Read a file; `family` overrides what names, shapes and header say. Malformed files raise BadInput."""
    header = read_header(path)
    dtypes = {name: info.dtype for name, info in header.tensors.items()}
    return from_tensors(load(path), header.metadata, family=family, dtypes=dtypes, settings=_peft_settings(path))


def from_tensors(
    tensors: Mapping[str, np.ndarray],
    metadata: Mapping[str, str] | None = None,
    *,
    family: str | None = None,
    dtypes: Mapping[str, str] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Lora:
    """Sort tensors into modules; `settings` is the content of a peft `adapter_config.json`, if there is one."""
    metadata = dict(metadata or {})
    parts, problems = _sort(tensors)
    family = family or guess_family(parts, _context(parts, tensors), metadata)
    alphas = _Alphas(metadata, settings)
    modules: dict[str, Module] = {}
    for raw, found in parts.items():
        name = names.canonical(raw, family) if family in FAMILIES else raw
        problem = _fault(raw, found, tensors) or (f"{name} is given twice" if name in modules else "")
        if problem:
            problems.append(problem)
            continue
        down, up = tensors[found["down"]], tensors[found["up"]]
        alpha = float(tensors[found["alpha"]].item()) if "alpha" in found else alphas.of(name, down.shape[0])
        modules[name] = Module(down, up, alpha, (dtypes or {}).get(found["down"], "F32"))
    return Lora(modules, metadata, names.detect_format(tensors), family, tuple(problems))


def to_tensors(lora: Lora, style: names.Format, *, dtype: str = "fp16") -> Tensors:
    """The tensors of a LoRA in a format. `dtype` is fp16, fp32, bf16 or keep; alpha is a scalar of the same dtype."""
    family = _family(lora)
    tensors: Tensors = {}
    for module, weights in lora.modules.items():
        code = weights.dtype if dtype == "keep" else DTYPES[dtype]
        down, up, alpha = names.tensor_names(module, style, family)
        tensors[down], tensors[up] = encode(weights.down, code), encode(weights.up, code)
        if alpha:
            tensors[alpha] = encode(np.array(weights.alpha, dtype=np.float32), code)
    return tensors


def to_kohya(lora: Lora, *, dtype: str = "fp16") -> Tensors:
    """sd-scripts' names: `lora_unet_…`, `lora_te_…` (SD) or `lora_te1_…`, `lora_te2_…` (SDXL), with `.alpha`."""
    return to_tensors(lora, "kohya", dtype=dtype)


def to_diffusers(lora: Lora, *, dtype: str = "fp16") -> tuple[Tensors, dict[str, str]]:
    """diffusers' names and the header entry that carries rank and alpha per component."""
    return to_tensors(lora, "diffusers", dtype=dtype), {ADAPTER_METADATA: adapter_metadata(lora)}


def adapter_metadata(lora: Lora) -> str:
    """The JSON from which diffusers builds one peft LoraConfig per component.

    Every component needs an entry: diffusers gives a component without one peft's default rank. Ranks and alphas that
    differ from the most common ones go into the patterns. Text-encoder targets leave out `text_model.`, which recent
    transformers no longer have; peft matches endings, so both generations find them.
    """
    entries: dict[str, Any] = {}
    for component in sorted({name.split(".", 1)[0] for name in lora.modules}):
        chosen = {n: m for n, m in lora.modules.items() if n.startswith(f"{component}.")}
        rank = Counter(module.rank for module in chosen.values()).most_common(1)[0][0]
        alpha = Counter(module.alpha for module in chosen.values()).most_common(1)[0][0]
        settings = {
            "r": rank,
            "lora_alpha": _plain(alpha),
            "rank_pattern": {_target(n): m.rank for n, m in chosen.items() if m.rank != rank},
            "alpha_pattern": {_target(n): _plain(m.alpha) for n, m in chosen.items() if m.alpha != alpha},
            "target_modules": sorted(_target(name) for name in chosen),
        }
        entries |= {f"{component}.{key}": value for key, value in settings.items()}
    return json.dumps(entries, sort_keys=True)


class _Alphas:
    """Alpha of modules that carry no alpha tensor: from diffusers' header entry or peft's settings, else the rank."""

    def __init__(self, metadata: Mapping[str, str], settings: Mapping[str, Any] | None) -> None:
        self._settings = _by_component(metadata.get(ADAPTER_METADATA)) or ({"": dict(settings)} if settings else {})

    def of(self, module: str, rank: int) -> float:
        component, path = module.split(".", 1)
        settings = self._settings.get(component, self._settings.get("", {}))
        alpha = _matching(settings.get("alpha_pattern") or {}, path)
        if alpha is None:
            alpha = settings.get("lora_alpha")
        if not isinstance(alpha, (int, float)) or isinstance(alpha, bool):
            return float(rank)
        return float(alpha) * rank**0.5 if settings.get("use_rslora") else float(alpha)


def _by_component(text: str | None) -> dict[str, dict[str, Any]]:
    """`{"unet": {"r": …}}` from diffusers' flat `unet.r` form, or from the same already nested."""
    if not text:
        return {}
    try:
        entries = json.loads(text)
    except ValueError as error:
        raise BadInput(
            f"The header entry {ADAPTER_METADATA} is not JSON ({error}).", "Export the LoRA again."
        ) from error
    if not isinstance(entries, dict):
        return {}
    nested: dict[str, dict[str, Any]] = {}
    for key, value in entries.items():
        component, dot, setting = key.partition(".")
        if dot:
            nested.setdefault(component, {})[setting] = value
        elif isinstance(value, dict):
            nested[key] = value
        else:
            nested.setdefault("", {})[key] = value
    return nested


def _matching(pattern: Mapping[str, Any], path: str) -> Any:
    for key, value in pattern.items():
        plain = key.lstrip("^").rstrip("$")
        if path == plain or path.endswith(f".{plain}"):
            return value
    return None


def _peft_settings(path: Path) -> Mapping[str, Any] | None:
    beside = path.with_name("adapter_config.json")
    if path.name != "adapter_model.safetensors" or not beside.is_file():
        return None
    settings = read_json(beside)
    return settings if isinstance(settings, dict) else None


def _sort(tensors: Iterable[str]) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Tensor names by module and part, and a sentence for each name that is not understood."""
    parts: dict[str, dict[str, str]] = {}
    problems: list[str] = []
    for name in tensors:
        key = names.parse(name)
        if key is None:
            problems.append(f"{name} is not a known LoRA tensor name")
        elif key.part in parts.setdefault(key.module, {}):
            problems.append(f"{name} and {parts[key.module][key.part]} are the same tensor")
        else:
            parts[key.module][key.part] = name
    return parts, problems


def _fault(module: str, found: Mapping[str, str], tensors: Mapping[str, np.ndarray]) -> str:
    """A sentence when the tensors of a module do not make a LoRA layer, else an empty text."""
    missing = [part for part in ("down", "up") if part not in found]
    if missing:
        return f"{module} has no {' and no '.join(missing)} tensor"
    down, up = tensors[found["down"]].shape, tensors[found["up"]].shape
    if len(down) < 2 or len(up) != len(down) or up[1] != down[0] or not down[0] or any(size != 1 for size in up[2:]):
        return f"{module} has down {down} and up {up}, which do not fit together"
    if "alpha" in found and tensors[found["alpha"]].size != 1:
        return f"{found['alpha']} is not one number"
    return ""


def _context(parts: Mapping[str, Mapping[str, str]], tensors: Mapping[str, np.ndarray]) -> int | None:
    """Width of the text embeddings that the U-Net's cross-attention reads, from the first key projection."""
    for module, found in parts.items():
        if module.startswith("unet.") and module.endswith("attn2.to_k") and "down" in found:
            shape = tensors[found["down"]].shape
            return shape[1] if len(shape) > 1 else None
    return None


def _target(module: str) -> str:
    return module.split(".", 1)[1].removeprefix("text_model.")


def _plain(value: float) -> int | float:
    return int(value) if value == int(value) else value


def _family(lora: Lora) -> str:
    if lora.family is None:
        raise BadInput("It cannot be told which base model this LoRA is for.", "Give the family: sd15, sd2 or sdxl.")
    return family_of(lora.family).name
