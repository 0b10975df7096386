"""The exported folders, read with the rules that each UI documents (docs/targets.md); other people's files stay."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lora_atelier.core import tensorfile
from lora_atelier.core.errors import BadInput
from lora_atelier.core.types import LoraCard
from lora_atelier.export import TARGETS, convert
from lora_atelier.export.convert import Lora
from lora_atelier.export.header import scrub_text
from lora_atelier.export.inspect import inspect_lora
from lora_atelier.export.publish import ExportResult, export_lora
from lora_atelier.export.sections import export_section
from lora_atelier.export.sidecars import merge
from PIL import Image
from PIL.PngImagePlugin import PngInfo

CARD = LoraCard(
    title="Water colour",
    author="Jo",
    licence="cc-by-4.0",
    trigger_words=("wtrclr style", "paper"),
    description="Soft washes on rough paper.",
    strength=0.8,
    tags=("style", "painting"),
)
FACTS = {
    "resolution": 128,
    "steps": 290,
    "base_model": "/home/jo/models/mini",
    "images": 24,
    "tags": {"wtrclr style": 24},
}
FOLDERS = {
    "comfyui": "models/loras",
    "a1111": "models/Lora",
    "forge": "models/Lora",
    "invokeai": "import",
    "swarmui": "Models/Lora",
    "sdnext": "models/Lora",
    "diffusers": "wash",
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, make_lora: Callable[..., Lora]) -> Path:
    names = [f"unet.down_blocks.{b}.attentions.0.transformer_blocks.0.attn1.to_q" for b in (0, 1, 2)]
    lora = make_lora("sd15", [*names, "text_encoder.text_model.encoder.layers.0.mlp.fc1"], rank=4, alpha=8)
    metadata = {
        convert.ADAPTER_METADATA: convert.adapter_metadata(lora),
        "atelier.family": "sd15",
        "atelier.step": "290",
        "ss_training_comment": "my private thought",
        "ss_output_dir_note": "C:\\Users\\Jo Doe\\out\\run.log and hf_abcdefghijklmnopqrstuvwx",
    }
    return tensorfile.save(
        tmp_path_factory.mktemp("source") / "step-000290.safetensors",
        convert.to_tensors(lora, "diffusers", dtype="fp32"),
        metadata,
    )


@pytest.fixture(scope="module")
def preview(tmp_path_factory: pytest.TempPathFactory) -> Path:
    info = PngInfo()
    info.add_text("workflow", "/home/jo/secret")
    noise = np.random.default_rng(1).integers(0, 255, (700, 900, 3), dtype=np.uint8)
    path = tmp_path_factory.mktemp("preview") / "preview.png"
    Image.fromarray(noise).save(path, pnginfo=info)
    return path


def run(source: Path, out: Path, targets: list[str], **options: Any) -> ExportResult:
    settings: dict[str, Any] = {"name": "wash", "card": CARD, "facts": FACTS} | options
    return export_lora(source, targets=targets, out=out, **settings)


@pytest.fixture(scope="module")
def everywhere(source: Path, preview: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[ExportResult, Path]:
    out = tmp_path_factory.mktemp("everywhere") / "out"
    return run(source, out, list(TARGETS), preview=preview), out


def folder_of(out: Path, target: str) -> Path:
    return out / target / FOLDERS[target]


def test_every_target_gets_its_layout_and_nothing_else(everywhere: tuple[ExportResult, Path]) -> None:
    result, out = everywhere
    for target in TARGETS:
        beside = {"wash.safetensors", "wash.json", "wash.png", "wash.txt"}
        expected = {"pytorch_lora_weights.safetensors", "README.md", "wash.png"} if target == "diffusers" else beside
        assert {path.name for path in folder_of(out, target).iterdir()} == expected
        assert {Path(file) for file in result.lora.files[target]} == set(folder_of(out, target).iterdir())
    assert all(check.ok and check.applied == 4 for check in result.checks)
    assert result.lora.path == str(folder_of(out, "comfyui") / "wash.safetensors")


@pytest.mark.parametrize("target", list(FOLDERS))
def test_header_tells_the_truth(everywhere: tuple[ExportResult, Path], target: str) -> None:
    path = folder_of(everywhere[1], target) / ("pytorch_lora_weights" if target == "diffusers" else "wash")
    path = path.with_suffix(".safetensors")
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    assert length < 2**20
    head = json.loads(raw[8 : 8 + length])["__metadata__"]
    digest = hashlib.sha256(raw[8 + length :]).hexdigest()
    assert head["sshs_model_hash"] == digest
    assert head["modelspec.hash_sha256"] == f"0x{digest}"
    for key in ("sai_model_spec", "architecture", "implementation", "title", "resolution", "date"):
        assert head[f"modelspec.{key}"], f"modelspec requires {key}"
    assert head["modelspec.architecture"] == "stable-diffusion-v1/lora"
    assert head["modelspec.resolution"] == "128x128"
    assert head["modelspec.trigger_phrase"] == "wtrclr style, paper"
    assert head["ss_output_name"] == "wash"
    assert (head["ss_network_dim"], head["ss_network_alpha"], head["ss_steps"]) == ("4", "8", "290")
    assert head["ss_sd_model_name"] == "mini"
    assert json.loads(head["ss_tag_frequency"]) == {"wash": {"wtrclr style": 24}}
    assert all(isinstance(value, str) for value in head.values())
    thumbnail = head["modelspec.thumbnail"]
    assert len(thumbnail) <= 30 * 1024
    picture = Image.open(io.BytesIO(base64.b64decode(thumbnail.removeprefix("data:image/jpeg;base64,"))))
    assert (picture.format, picture.size) == ("JPEG", (256, 256))


def test_nothing_private_is_published(everywhere: tuple[ExportResult, Path]) -> None:
    result, out = everywhere
    for path in out.rglob("*.*"):
        data = path.read_bytes() if path.is_file() else b""
        for secret in (b"/home/jo", b"Jo Doe", b"private thought", b"hf_abcdef", str(out).encode()):
            assert secret not in data, f"{path.name} tells {secret!r}"
    assert set(result.scrubbed) == {"ss_training_comment", "ss_output_dir_note"}


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("/home/jo/models/mini.safetensors", "mini.safetensors"),
        ("C:\\Users\\Jo Doe\\pics\\a.png", "a.png"),
        ("see /home/jo/x.txt, please", "see x.txt, please"),
        ("file:///home/jo/x.txt", "x.txt"),
        ("~/secret/x", "x"),
        ('{"dir": "/data/jo/set"}', '{"dir": "set"}'),
        ("https://github.com/owner/repo", "https://github.com/owner/repo"),
        ("red / blue / green and/or 3/4", "red / blue / green and/or 3/4"),
        ("key hf_abcdefghijklmnopqrstuvwx", "key ***"),
    ],
)
def test_paths_and_tokens_are_removed_from_texts(text: str, clean: str) -> None:
    assert scrub_text(text) == clean


@pytest.mark.parametrize("target", ["a1111", "forge", "comfyui"])
def test_webui_fields(everywhere: tuple[ExportResult, Path], target: str) -> None:
    fields = json.loads((folder_of(everywhere[1], target) / "wash.json").read_text())
    assert fields["activation text"] == "wtrclr style, paper"
    assert fields["preferred weight"] == 0.8
    assert fields["sd version"] == "SD1"
    assert fields["description"] == CARD.description
    assert "cc-by-4.0" in fields["notes"]
    assert "Water colour" in (folder_of(everywhere[1], target) / "wash.txt").read_text()


def test_fields_of_the_others(everywhere: tuple[ExportResult, Path]) -> None:
    invoke = json.loads((folder_of(everywhere[1], "invokeai") / "wash.json").read_text())
    assert [word.strip() for word in invoke["activation text"].split(",")] == ["wtrclr style", "paper"]
    swarm = json.loads((folder_of(everywhere[1], "swarmui") / "wash.json").read_text())
    assert float(swarm["lora_default_weight"]) == 0.8
    assert [int(part) for part in swarm["modelspec.resolution"].split("x")] == [128, 128]
    sdnext = json.loads((folder_of(everywhere[1], "sdnext") / "wash.json").read_text())
    digest = hashlib.sha256((folder_of(everywhere[1], "sdnext") / "wash.safetensors").read_bytes()).hexdigest()
    (version,) = sdnext["modelVersions"]
    assert version["files"][0]["hashes"]["SHA256"].lower() == digest
    assert version["trainedWords"] == ["wtrclr style", "paper"]
    assert "id" not in version


def test_diffusers_card(everywhere: tuple[ExportResult, Path]) -> None:
    text = (folder_of(everywhere[1], "diffusers") / "README.md").read_text()
    _, front, body = text.split("---\n", 2)
    assert 'license: "cc-by-4.0"' in front
    assert 'base_model: "mini"' in front
    code = body.split("```python\n")[1].split("```")[0]
    compile(code, "README", "exec")
    assert "load_lora_weights('wash'" in code


def test_preview_carries_no_embedded_text(everywhere: tuple[ExportResult, Path]) -> None:
    picture = Image.open(folder_of(everywhere[1], "a1111") / "wash.png")
    assert max(picture.size) == 512
    assert picture.info == {}


def test_the_users_notes_survive_and_ours_are_renewed(source: Path, tmp_path: Path) -> None:
    run(source, tmp_path / "out", ["a1111"])
    path = tmp_path / "out/a1111/models/Lora/wash.json"
    fields = json.loads(path.read_text())
    path.write_text(json.dumps(fields | {"notes": "mine", "preferred weight": 0.65, "custom": [1]}))
    (path.parent / "wash.txt").write_text("my own text")
    newer = LoraCard(title="Wash", trigger_words=("wash2",), description="Newer.", strength=1.0)
    result = run(source, tmp_path / "out", ["a1111"], card=newer)
    fields = json.loads(path.read_text())
    assert (fields["notes"], fields["preferred weight"], fields["custom"]) == ("mine", 0.65, [1])
    assert (fields["description"], fields["activation text"]) == ("Newer.", "wash2")
    assert (path.parent / "wash.txt").read_text() == "my own text"
    assert result.kept == (str(path.parent / "wash.txt"),)


def test_merge_keeps_what_is_not_ours() -> None:
    assert merge({"a": "theirs"}, {"a": "ours", "b": 1}, {}) == {"a": "theirs", "b": 1}
    assert merge({"a": "old"}, {"a": "new"}, {"a": "old"}) == {"a": "new"}
    assert merge({"a": ""}, {"a": "new"}, {}) == {"a": "new"}


def test_a_strangers_file_is_not_overwritten(source: Path, tmp_path: Path) -> None:
    other = tmp_path / "out/comfyui/models/loras/wash.safetensors"
    tensorfile.save(other, {"x": np.ones(2)})
    before = other.read_bytes()
    with pytest.raises(BadInput, match="was not written by LoRA Atelier"):
        run(source, tmp_path / "out", ["a1111", "comfyui"])
    assert other.read_bytes() == before
    assert not list((tmp_path / "out").rglob("wash.json"))
    run(source, tmp_path / "out", ["comfyui"], overwrite=True)
    assert other.read_bytes() != before


def test_own_folders_of_a_program(source: Path, tmp_path: Path) -> None:
    folders = {"comfyui": tmp_path / "ComfyUI/models/loras", "diffusers": tmp_path / "hub"}
    result = run(source, tmp_path / "out", ["comfyui", "diffusers"], roots=folders)
    assert result.lora.path == str(tmp_path / "ComfyUI/models/loras/wash.safetensors")
    assert (tmp_path / "hub/wash/pytorch_lora_weights.safetensors").is_file()
    assert not (tmp_path / "out").exists()


def test_an_edited_model_card_stays(source: Path, tmp_path: Path) -> None:
    run(source, tmp_path / "out", ["diffusers"])
    path = tmp_path / "out/diffusers/wash/README.md"
    first = path.read_text()
    assert run(source, tmp_path / "out", ["diffusers"], card=LoraCard("Other")).kept == ()
    assert "# Other" in path.read_text()
    path.write_text(first.replace("Soft washes", "Very soft washes"))
    assert run(source, tmp_path / "out", ["diffusers"], card=LoraCard("Third")).kept == (str(path),)
    assert "Very soft washes" in path.read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "../wash"}, "cannot be used as a file name"),
        ({"targets": ["photoshop"]}, "not an export target"),
        ({"targets": []}, "No export target"),
        ({"dtype": "int4"}, "not a storage type"),
        ({"family": "flux"}, "cannot be exported yet|cannot be converted|not known"),
        ({"preview": Path("missing.png")}, "preview picture"),
    ],
)
def test_bad_requests_leave_nothing_behind(source: Path, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    settings = {"targets": ["a1111", "diffusers"]} | options
    with pytest.raises(BadInput, match=message):
        run(source, tmp_path / "out", settings.pop("targets"), **settings)
    assert not (tmp_path / "out").exists()


def test_values_beyond_fp16_are_refused_with_the_way_out(tmp_path: Path, make_lora: Callable[..., Lora]) -> None:
    name = "unet.down_blocks.0.attentions.0.proj_in"
    lora = make_lora("sd15", [name], rank=4, scale=1e-3)
    lora.modules[name].down[0, 0] = 1e5
    source = tensorfile.save(tmp_path / "s.safetensors", convert.to_kohya(lora, dtype="fp32"))
    with pytest.raises(BadInput, match="choose fp32 or bf16"):
        run(source, tmp_path / "out", ["comfyui"])
    assert not list((tmp_path / "out").rglob("*.safetensors"))
    assert run(source, tmp_path / "out", ["comfyui"], dtype="bf16").checks[0].ok


def test_inspect_describes_and_judges(everywhere: tuple[ExportResult, Path], source: Path) -> None:
    facts = inspect_lora(Path(everywhere[0].lora.path))
    json.dumps(facts)
    assert (facts["format"], facts["family"], facts["modules"], facts["healthy"]) == ("kohya", "sd15", 4, True)
    assert (facts["ranks"], facts["alphas"], facts["dtypes"]) == ({"4": 4}, {"8": 4}, {"F16": 4})
    assert list(facts["norms"]) == ["text_encoder.layers.0", *(f"unet.down_blocks.{b}" for b in (0, 1, 2))]
    assert facts["trigger"] == "wtrclr style, paper"
    original = inspect_lora(source)
    assert original["format"] == "diffusers"
    assert original["norms"]["unet.down_blocks.1"] == pytest.approx(facts["norms"]["unet.down_blocks.1"], rel=1e-2)


def test_section_shows_every_file(everywhere: tuple[ExportResult, Path]) -> None:
    section = export_section(everywhere[0])
    shown = "\n".join(str(row) for table in section.tables for row in table.rows)
    for files in everywhere[0].lora.files.values():
        assert all(Path(file).name in shown for file in files)
    assert shown.count("4 modules read") == len(TARGETS)
