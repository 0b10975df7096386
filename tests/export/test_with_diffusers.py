"""The exported files in diffusers' own hands: the same output as the adapter they were made from, no key unused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lora_atelier.core.types import LoraCard
from lora_atelier.export import checks, convert, keys
from lora_atelier.export.convert import Lora
from lora_atelier.export.families import FAMILIES
from lora_atelier.export.publish import export_lora

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytestmark = pytest.mark.timeout(1200)  # seconds of work, but the first import of the libraries can take minutes


def _pipeline(tiny: Any) -> Any:
    from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

    kind = StableDiffusionPipeline if tiny.family == "sd15" else StableDiffusionXLPipeline
    return kind.from_pretrained(tiny.base, safety_checker=None)


def _export(tiny: Any, out: Path, target: str) -> Path:
    result = export_lora(
        tiny.lora, name="tiny", card=LoraCard("Tiny"), targets=[target], out=out, base=tiny.base, dtype="fp32"
    )
    assert result.checks[0].message == f"{tiny.modules} of {tiny.modules} modules apply to this base model."
    return Path(next(file for file in result.lora.files[target] if file.endswith(".safetensors")))


@pytest.mark.parametrize("target", ["comfyui", "diffusers"])
def test_same_output_after_export(tiny: Any, tmp_path: Path, target: str, caplog: pytest.LogCaptureFixture) -> None:
    file = _export(tiny, tmp_path, target)
    pipe = _pipeline(tiny)
    pipe.load_lora_weights(str(file.parent), weight_name=file.name, adapter_name="check")
    with torch.no_grad():
        output = pipe.unet(**tiny.inputs).sample
    assert (tiny.plain - tiny.expected).abs().max() > 1e-2, "the LoRA must matter for this test to mean anything"
    assert (output - tiny.expected).abs().max() < 1e-5
    arrived = checks.loaded_modules(pipe, "check")
    source = convert.read_lora(tiny.lora)
    assert arrived.keys() == source.modules.keys()
    assert all(checks._same(source.modules[name], arrived[name]) for name in arrived)
    assert not [record for record in caplog.records if "unexpected" in record.getMessage().lower()]


def test_load_with_diffusers_reports_what_arrived(tiny: Any, tmp_path: Path) -> None:
    check = checks.load_with_diffusers(_export(tiny, tmp_path, "diffusers").parent, tiny.base)
    assert (check.ok, check.applied, check.total) == (True, tiny.modules, tiny.modules)


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_conversion_agrees_with_diffusers_own(
    family: str, make_lora: Callable[..., Lora], all_modules: Callable[[str], list[str]]
) -> None:
    """diffusers writes `lora_te1_` for SD 1.5 too, its own block names for SDXL too, and the rank as an int64 alpha."""
    from diffusers.utils import convert_state_dict_to_kohya

    lora = make_lora(family, all_modules(family), rank=4, alpha=2.0)
    source = {name: torch.from_numpy(array) for name, array in convert.to_diffusers(lora, dtype="fp32")[0].items()}
    theirs = {name: tensor.numpy() for name, tensor in convert_state_dict_to_kohya(source).items()}
    ours = convert.to_kohya(lora, dtype="fp32")
    assert len(ours) == len(theirs) == 3 * len(lora.modules)
    if family == "sd15":
        assert {name.replace("lora_te1_", "lora_te_") for name in theirs} == ours.keys()
    read = convert.from_tensors(theirs, family=family)
    assert read.problems == ()
    assert read.modules.keys() == lora.modules.keys()
    for name, module in lora.modules.items():
        np.testing.assert_array_equal(module.down, read.modules[name].down)
        np.testing.assert_array_equal(module.up, read.modules[name].up)
        assert (module.alpha, read.modules[name].alpha) == (2.0, 4.0)


def test_block_names_agree_with_diffusers_single_file_loader(tiny: Any) -> None:
    """Our LDM names of every layer, given to diffusers' own LDM converter, come back as the layers they are."""
    from diffusers import UNet2DConditionModel
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    unet = UNet2DConditionModel.from_pretrained(tiny.base / "unet")
    state = {
        name: value for name, value in unet.state_dict().items() if keys.parse(f"unet.{_module(name)}.lora_A.weight")
    }
    assert len(state) > 0.9 * len(unet.state_dict())
    checkpoint = {}
    for name, value in state.items():
        ldm = keys.comfyui_module(f"unet.{_module(name)}", FAMILIES[tiny.family])
        checkpoint[f"model.{ldm}.{name.rpartition('.')[2]}"] = value
    assert len(checkpoint) == len(state)
    converted = convert_ldm_unet_checkpoint(checkpoint, dict(unet.config))
    assert converted.keys() == state.keys()
    assert all(converted[name] is state[name] for name in state)


def _module(name: str) -> str:
    return name.rpartition(".")[0]
