"""diffusers: a folder with the library's default file name and a model card that shows how to load it."""

from __future__ import annotations

import json

from .base import Bundle, Target


def _card(bundle: Bundle) -> str:
    card, facts = bundle.card, bundle.facts
    training = "".join(
        f"| {key.replace('_', ' ')} | {value} |\n" for key, value in sorted(facts.items()) if _plain(value)
    )
    table = f"## Training\n\n| | |\n|---|---|\n{training}\n" if training else ""
    words = f"Trigger words: `{bundle.trigger}`\n\n" if bundle.trigger else ""
    picture = f"![Preview]({bundle.name}.png)\n\n" if bundle.preview else ""
    return (
        f"---\n{_front_matter(bundle)}---\n\n# {card.title}\n\n{card.description}\n\n"
        f"{picture}{words}Recommended strength: {card.strength:g}\n\n"
        f"```python\n{_example(bundle)}```\n\n{table}"
    )


def _front_matter(bundle: Bundle) -> str:
    """YAML; every text is written as JSON, which YAML reads the same way."""
    rows = {
        "license": bundle.card.licence or "other",
        "base_model": str(bundle.facts.get("base_model") or ""),
        "instance_prompt": bundle.trigger,
    }
    head = "".join(f"{key}: {json.dumps(value, ensure_ascii=False)}\n" for key, value in rows.items() if value)
    tags = ["lora", "diffusers", "text-to-image", *bundle.card.tags]
    return f"library_name: diffusers\n{head}tags: {json.dumps(tags, ensure_ascii=False)}\n"


def _example(bundle: Bundle) -> str:
    base = str(bundle.facts.get("base_model") or "BASE_MODEL")
    return (
        "from diffusers import AutoPipelineForText2Image\n\n"
        f"pipe = AutoPipelineForText2Image.from_pretrained({base!r})\n"
        f"pipe.load_lora_weights({bundle.name!r}, adapter_name='lora')\n"
        f"pipe.set_adapters('lora', {bundle.card.strength:g})\n"
        f"pipe({bundle.trigger or 'a prompt'!r}).images[0].save('picture.png')\n"
    )


def _plain(value: object) -> bool:
    return isinstance(value, (str, int, float)) and value != ""


TARGET = Target(
    name="diffusers",
    title="diffusers",
    folder=".",
    own_folder=True,
    hint='pipe.load_lora_weights("{name}") with the folder\'s path.',
    style="diffusers",
    weights="pytorch_lora_weights.safetensors",
    text=_card,
    text_name="README.md",
)
