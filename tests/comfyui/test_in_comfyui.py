"""The pack inside a real ComfyUI: loaded lightly, fully described, run to the end, refused clearly, and stopped."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest
from lora_atelier import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS

from .conftest import PACK, ComfyUI, quickstart, worker

pytestmark = [pytest.mark.comfyui, pytest.mark.timeout(900)]

_PROBE = """
import importlib.util, json, sys, time
sys.path.insert(0, sys.argv[2])
folder, sys.argv = sys.argv[1], sys.argv[:1] + ["--cpu"]
import comfy.options; comfy.options.enable_args_parsing()
import utils.extra_config, server, nodes
before = set(sys.modules)
began = time.process_time()
spec = importlib.util.spec_from_file_location(folder.replace(".", "_x_"), folder + "/__init__.py")
module = importlib.util.module_from_spec(spec); sys.modules[spec.name] = module
spec.loader.exec_module(module)
seconds = time.process_time() - began
new = sorted({name.split(".")[0] for name in set(sys.modules) - before if not name.startswith(spec.name)})
print(json.dumps({"seconds": seconds, "new": new, "nodes": len(module.NODE_CLASS_MAPPINGS)}))
"""


def test_importing_the_pack_costs_little_and_loads_nothing_heavy(base: Path, checkout: Path, interpreter: Path) -> None:
    pack = str(base / "custom_nodes" / PACK)
    subprocess.run([str(interpreter), "-m", "compileall", "-q", pack], check=True)
    command = [str(interpreter), "-c", _PROBE, pack, str(checkout)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=checkout)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["nodes"] == len(NODE_CLASS_MAPPINGS)
    assert found["seconds"] < 0.15
    assert not {"torch", "cv2", "diffusers", "peft", "transformers", "matplotlib", "pydantic"} & set(found["new"])


def test_every_node_is_offered_with_its_words(comfyui: ComfyUI) -> None:
    offered = comfyui.get("/object_info")
    for node_id, title in NODE_DISPLAY_NAME_MAPPINGS.items():
        node = offered[node_id]
        assert node["display_name"] == title
        assert node["description"] and node["category"].startswith("LoRA Atelier/")
        assert all(node["output_tooltips"]) if node["output"] else True
        inputs = [spec for group in ("required", "optional") for spec in node["input"].get(group, {}).values()]
        assert all(spec[1]["tooltip"] for spec in inputs)
        assert comfyui.get(f"/extensions/{PACK}/docs/{node_id}.md").startswith(f"# {title}\n")


def test_templates_and_script_are_served(comfyui: ComfyUI) -> None:
    assert sorted(comfyui.get("/workflow_templates")[PACK]) == ["curate-only", "quickstart", "reopen-run"]
    template = comfyui.get(f"/api/workflow_templates/{PACK}/quickstart.json")
    assert template["version"] == 0.4
    assert f"/extensions/{PACK}/js/atelier.js" in comfyui.get("/extensions")


def test_without_a_worker_the_graph_fails_at_once_with_the_command(comfyui: ComfyUI) -> None:
    started = time.monotonic()
    entry = comfyui.finished(comfyui.queue(quickstart(name="nobody")), 60)
    error = dict(entry["status"]["messages"])["execution_error"]
    assert entry["status"]["status_str"] == "error"
    assert "lora-atelier worker" in error["exception_message"]
    assert str(comfyui.spool) in error["exception_message"]
    assert "2" not in error["executed"]  # told before the pictures were measured
    assert time.monotonic() - started < 60


def test_with_a_worker_the_graph_runs_to_the_end(comfyui: ComfyUI) -> None:
    with worker(comfyui.spool):
        api = quickstart(name="whole")
        entry = comfyui.finished(comfyui.queue(api), 600)
    assert entry["status"]["status_str"] == "success", entry["status"]["messages"][-1]
    shown = {api[node_id]["class_type"]: ui for node_id, ui in entry["outputs"].items()}
    assert shown["AtelierTrainLora"]["text"][0].startswith("done")
    assert all(shown[name]["images"] for name in ("AtelierLossCurve", "AtelierCheckpointGrid", "AtelierCurationReport"))
    assert (comfyui.base / "models" / "loras" / "film-style.safetensors").is_file()
    address = shown["AtelierRunCard"]["atelier_report"][0]
    assert "Exported files" in comfyui.get(address)


def test_cancel_stops_the_training_and_keeps_its_checkpoints(comfyui: ComfyUI) -> None:
    with worker(comfyui.spool):
        prompt = comfyui.queue(quickstart(name="cancelled", max_steps=100_000, sample_every=0))
        runs = comfyui.base / "output" / "lora_atelier" / "runs"
        deadline = time.monotonic() + 300
        while not list(runs.glob("cancelled-*/checkpoints/step-*.safetensors")):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        comfyui.post("/interrupt", {})
        entry = comfyui.finished(prompt, 120)
        kinds = [message[0] for message in entry["status"]["messages"]]
        assert "execution_interrupted" in kinds
        run = next(runs.glob("cancelled-*"))
        while json.loads((run / "run.json").read_text(encoding="utf-8"))["status"] not in ("stopped", "failed"):
            assert time.monotonic() < deadline
            time.sleep(0.2)
    assert json.loads((run / "run.json").read_text(encoding="utf-8"))["status"] == "stopped"


def test_reports_outside_the_packs_folder_are_not_served(comfyui: ComfyUI) -> None:
    (comfyui.base / "output" / "secret.html").write_text("secret", encoding="utf-8")
    import urllib.error

    for path in ("../secret.html", "/etc/passwd", "..%2Fsecret.html", "runs", ""):
        with pytest.raises(urllib.error.HTTPError):
            comfyui.get(f"/lora_atelier/report?path={path}")
