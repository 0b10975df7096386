"""Training, validation and export nodes on a small finished run; and what they say when something is missing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lora_atelier import NODE_CLASS_MAPPINGS
from lora_atelier.core.errors import BadInput
from lora_atelier.core.rundir import RunDir
from lora_atelier.core.types import BaseModel, Curation, Dataset, Run
from lora_atelier.nodes import host
from lora_atelier.nodes.training import build_config

from . import runs
from .conftest import call


@pytest.fixture
def dataset(filtered: Curation, places: Path) -> Dataset:
    (captioned,) = call("AtelierCaptionDataset", curation=filtered, trigger="film style")["result"]
    (made,) = call("AtelierPrepareDataset", curation=captioned, name="film", trigger_words="film style")["result"]
    return made


@pytest.fixture
def base(places: Path) -> BaseModel:
    """A base model that is only known by name: nothing here draws with it."""
    return BaseModel("none", str(places / "models" / "none"), "0" * 64, "sd15")


def settings(dataset: Dataset, base: BaseModel, **changes: Any) -> Any:
    (plan,) = call(
        "AtelierValidationPlan", prompts="film style, a girl\n\nfilm style, a boy", other_prompts="a house",
        seeds="3, 4", width=128, height=128,
    )["result"]  # fmt: skip
    (network,) = call("AtelierNetwork", dim=8, alpha=4.0)["result"]
    (optimizer,) = call("AtelierOptimizer", learning_rate=2e-4, batch_size=3)["result"]
    (options,) = call("AtelierEmbeddedOptions", threads=1, compute="fp32")["result"]
    values = {"name": "", "max_steps": 80, "resolution": 128, "save_every": 20, "sample_every": 20, "seed": 5} | changes
    return build_config(dataset, base, network=network, optimizer=optimizer, plan=plan, options=options, **values)


@pytest.fixture
def run(places: Path, dataset: Dataset, base: BaseModel) -> Run:
    return runs.finished(host.runs_root(), settings(dataset, base), dataset, base)


def test_wires_and_widgets_become_one_config(dataset: Dataset, base: BaseModel) -> None:
    config = settings(dataset, base)
    assert (config.network.dim, config.network.alpha) == (8, 4.0)
    assert (config.optimizer.learning_rate, config.schedule.batch_size, config.schedule.seed) == (2e-4, 3, 5)
    assert (config.schedule.max_steps, config.output.save_every, config.validation.every_steps) == (80, 20, 20)
    assert (config.data.resolution, config.data.bucket_step) == (128, 64)
    assert [(p.id, p.kind) for p in config.validation.prompts] == [
        ("p1", "in_domain"), ("p2", "in_domain"), ("other1", "off_domain"),
    ]  # fmt: skip
    assert config.validation.seeds == (3, 4)
    assert config.output.name == "film"
    assert (config.precision.threads, config.precision.compute) == (1, "fp32")


@pytest.mark.parametrize("change", [{"name": "../x"}, {"resolution": 100}, {"max_steps": 0}])
def test_impossible_settings_are_refused(dataset: Dataset, base: BaseModel, change: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        settings(dataset, base, **change)


def test_training_without_a_worker_fails_at_once_and_queues_nothing(
    dataset: Dataset, base: BaseModel, places: Path
) -> None:
    for mode in NODE_CLASS_MAPPINGS["AtelierTrainLora"].INPUT_TYPES()["required"]["mode"][0]:
        with pytest.raises(BadInput, match="lora-atelier worker") as error:
            call("AtelierTrainLora", dataset=dataset, base=base, mode=mode)
        assert str(host.spool_dir()) in str(error.value)
    with pytest.raises(BadInput, match="lora-atelier worker"):
        NODE_CLASS_MAPPINGS["AtelierTrainLora"]().check_lazy_status(dataset=None, base=None)
    assert host.spool().jobs() == []
    assert not host.runs_root().exists()


def test_with_a_worker_all_connected_wires_are_asked_for(places: Path) -> None:
    spool = host.spool()
    spool.beat(spool.new_worker())
    wanted = NODE_CLASS_MAPPINGS["AtelierTrainLora"]().check_lazy_status(dataset=None, base=None, plan=None, name="x")
    assert wanted == ["dataset", "base", "plan"]


def test_pictures_of_a_run(run: Run) -> None:
    (loss,) = call("AtelierLossCurve", run=run)["result"]
    (grid,) = call("AtelierCheckpointGrid", run=run)["result"]
    for picture in (loss, grid):
        assert picture.ndim == 4 and picture.shape[0] == 1 and picture.shape[3] == 3
        assert float(picture.max()) > float(picture.min())


def test_from_scores_to_export_and_report(run: Run, filtered: Curation, places: Path) -> None:
    (scores,) = call("AtelierScoreCheckpoints", run=run)["result"]
    assert {row.step for row in scores.rows} >= {0, *runs.STEPS, "data"}
    choice, step = call("AtelierChooseCheckpoint", scores=scores)["result"]
    assert json.loads(RunDir(Path(run.path)).choice_file.read_text(encoding="utf-8"))["outcome"] == choice.outcome
    assert step == (choice.recommended_step or 0)
    (card,) = call("AtelierLoraCard", lora_title="Film", author="me")["result"]
    lora, name = call("AtelierExportLora", run=run, choice=choice, card=card, name="film", diffusers=True)["result"]
    assert name == lora.name and Path(lora.path).is_file()
    assert set(lora.files) == {"comfyui", "diffusers"}
    assert lora.trigger_words == ("film style",)
    answer = call("AtelierRunCard", run=run, curation=filtered, choice=choice, lora=lora)
    page = Path(answer["result"][0]).read_text(encoding="utf-8")
    assert all(word in page for word in ("Face detail", "Exported files", "comfyui", "Loss"))
    assert not any(asks in page for asks in ('src="http', 'href="http', "url(http", "<script"))


def test_export_of_a_step_that_is_not_there_or_under_a_bad_name(run: Run, places: Path) -> None:
    with pytest.raises(BadInput, match="20, 40, 60, 80"):
        call("AtelierExportLora", run=run, name="film", step=30)
    with pytest.raises(BadInput):
        call("AtelierExportLora", run=run, name="../film")
    with pytest.raises(BadInput):
        call("AtelierExportLora", run=run, name="film", comfyui=False)
    assert not list(places.rglob("film*.safetensors"))


def test_open_run_sees_changes_and_only_offers_runs(run: Run, places: Path) -> None:
    node, name = NODE_CLASS_MAPPINGS["AtelierOpenRun"], Path(run.path).name
    assert node.INPUT_TYPES()["required"]["name"][0] == [host.NEWEST, name]
    assert call("AtelierOpenRun", name=host.NEWEST)["result"] == (run,)
    before = node.IS_CHANGED(name=name)
    assert call("AtelierOpenRun", name=name)["result"] == (run,)
    RunDir(Path(run.path)).checkpoint_path(80).unlink()
    assert node.IS_CHANGED(name=name) != before
    for wrong in ("../runs/" + name, "nothing", ""):
        assert node.VALIDATE_INPUTS(name=wrong) is not True
        with pytest.raises(BadInput):
            call("AtelierOpenRun", name=wrong)


def test_inspect_reads_only_listed_files(run: Run, places: Path) -> None:
    node = NODE_CLASS_MAPPINGS["AtelierInspectLora"]
    folder = places / "models" / "loras" / "styles"
    folder.mkdir(parents=True)
    source = RunDir(Path(run.path)).checkpoint_path(80)
    (folder / "film.safetensors").write_bytes(source.read_bytes())
    facts = json.loads(call("AtelierInspectLora", lora="styles/film.safetensors")["result"][0])
    assert facts["sha256"] and facts["bytes"] == source.stat().st_size
    assert json.loads(call("AtelierInspectLora", lora=host.NEWEST)["result"][0]) == facts
    assert node.VALIDATE_INPUTS(lora=f"../../output/runs/{source}") is not True
    with pytest.raises(BadInput):
        call("AtelierInspectLora", lora="../../etc/passwd")


def test_base_models_are_offered_by_name(places: Path) -> None:
    from .conftest import ROOT

    folder = places / "models" / "checkpoints" / "sd"
    folder.mkdir(parents=True)
    (folder / "a.safetensors").write_bytes(b"")
    (folder / "b.ckpt").write_bytes(b"")
    offered = host.models("base")
    assert "sd/a.safetensors" in offered and not any("ckpt" in name for name in offered)
    assert (host.BUILT_IN_MODEL in offered) == (ROOT / "assets" / "atelier-mini" / "model_index.json").is_file()
    with pytest.raises(BadInput):
        host.resolve_model("base", "../checkpoints/sd/a.safetensors")


@pytest.mark.parametrize("seeds", ["", "1, two", "-1"])
def test_a_plan_needs_prompts_and_whole_seeds(seeds: str) -> None:
    with pytest.raises(BadInput):
        call("AtelierValidationPlan", prompts="a girl", seeds=seeds)
    with pytest.raises(BadInput):
        call("AtelierValidationPlan", prompts=" \n ", seeds="1")


def test_an_interrupt_of_the_host_passes_through(film: str, places: Path) -> None:
    class Stop(BaseException):
        """As ComfyUI's since 0.33: not an Exception."""

    def check() -> None:
        raise Stop

    (images,) = call("AtelierLoadImageFolder", folder=film)["result"]
    host.configure(check=check)
    with pytest.raises(Stop):
        call("AtelierMeasureImages", images=images)


def test_progress_reaches_the_listener(film: str) -> None:
    heard: list[tuple[str, int, int]] = []
    listener: Callable[..., None] = lambda node, done, total, text: heard.append((node, done, total))  # noqa: E731
    host.configure(on_progress=listener)
    (images,) = call("AtelierLoadImageFolder", folder=film)["result"]
    call("AtelierMeasureImages", images=images, unique_id="7")
    assert heard[-1] == ("7", 20, 20)
