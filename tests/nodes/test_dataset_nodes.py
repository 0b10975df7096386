"""Dataset and caption nodes on the sample frames, against what the artist says is in them."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from lora_atelier import NODE_CLASS_MAPPINGS
from lora_atelier.core.errors import BadInput
from lora_atelier.core.types import Curation
from lora_atelier.nodes import host

from .conftest import FILM, ROOT, call

TRUTH = {
    row["file"]: row["fault"]
    for row in map(
        json.loads, (ROOT / "assets" / "samples" / "film-truth.jsonl").read_text(encoding="utf-8").splitlines()
    )
}


def test_the_filters_find_what_is_wrong_with_the_frames(filtered: Curation) -> None:
    curation = filtered
    verdicts = {decision.path: decision for decision in curation.decisions}
    good = [path for path in verdicts if TRUTH[path] is None]
    crowds = [path for path in verdicts if TRUTH[path] == "several"]
    assert good and crowds
    assert sum(verdicts[path].decision == "keep" for path in good) >= 0.8 * len(good)
    caught = [any(why.rule == "character_count" for why in verdicts[path].reasons) for path in crowds]
    assert sum(caught) >= 0.6 * len(crowds)
    assert [row["rule"] for row in curation.rules][-1] == "framing_consistency"


def test_report_shows_the_piles_and_obeys_the_users_verdict(filtered: Curation, places: Path) -> None:
    curation = filtered
    answer = call("AtelierCurationReport", curation=curation, name="film")
    published, sheet, report = answer["result"]
    folder = places / "output" / "curation" / "film"
    assert Path(report) == folder / "report.html"
    assert len((folder / "decisions.jsonl").read_text(encoding="utf-8").splitlines()) == 20
    assert sheet.shape[0] == 1 and sheet.shape[3] == 3 and 0 <= float(sheet.min()) < float(sheet.max()) <= 1
    assert f"{len(published.kept())} kept" in answer["ui"]["text"][0]
    rejected = next(decision.path for decision in published.decisions if decision.decision == "reject")
    node = NODE_CLASS_MAPPINGS["AtelierCurationReport"]
    before = node.IS_CHANGED(name="film")
    (folder / "overrides.json").write_text(json.dumps({rejected: "keep"}), encoding="utf-8")
    assert node.IS_CHANGED(name="film") != before
    again, _, _ = call("AtelierCurationReport", curation=curation, name="film")["result"]
    assert rejected in {picture.path for picture in again.kept()}


def test_captions_and_split(filtered: Curation, places: Path) -> None:
    curation = filtered
    (captioned,) = call("AtelierCaptionDataset", curation=curation, trigger="film style")["result"]
    (dataset,) = call("AtelierPrepareDataset", curation=captioned, name="film", trigger_words="film style, other")[
        "result"
    ]
    assert dataset.trigger_words == ("film style", "other")
    assert len(dataset.items) == len(curation.kept())
    assert {item.split for item in dataset.items} == {"train", "heldout"}
    assert all(item.caption.startswith("film style") for item in dataset.items)


def test_folder_changes_are_seen(frames: Path, places: Path) -> None:
    node, film = NODE_CLASS_MAPPINGS["AtelierLoadImageFolder"], "mine"
    shutil.copytree(frames, places / "input" / film)
    states = [node.IS_CHANGED(folder=film)]
    picture = next((places / "input" / film).iterdir())
    os.utime(picture, ns=(1, 1))
    states.append(node.IS_CHANGED(folder=film))
    picture.unlink()
    states.append(node.IS_CHANGED(folder=film))
    assert len(set(states)) == 3
    assert node.IS_CHANGED(folder=film) == states[-1]


def test_only_folders_on_the_list_can_be_opened(film: str, places: Path) -> None:
    (places / "secret").mkdir()
    (places / "input" / "link").symlink_to(places / "secret", target_is_directory=True)
    node = NODE_CLASS_MAPPINGS["AtelierLoadImageFolder"]
    for name in ("../secret", "film/../../secret", str(places / "secret"), "link", "", "/etc"):
        assert node.VALIDATE_INPUTS(folder=name) is not True
        with pytest.raises(BadInput):
            call("AtelierLoadImageFolder", folder=name)
    assert host.SAMPLE_FOLDER in node.INPUT_TYPES()["required"]["folder"][0]
    assert host.resolve_folder(host.SAMPLE_FOLDER) == FILM


@pytest.mark.parametrize("name", ["../outside", "a/b", "..", "", "C:\\x", "con"])
def test_names_cannot_leave_the_output(filtered: Curation, places: Path, name: str) -> None:
    with pytest.raises(BadInput):
        call("AtelierCurationReport", curation=filtered, name=name)
    assert not (places / "output").exists()


def test_an_empty_folder_and_one_of_text_files_are_refused_in_one_sentence(places: Path) -> None:
    (places / "input" / "empty").mkdir()
    (places / "input" / "texts").mkdir()
    (places / "input" / "texts" / "a.txt").write_text("no picture", encoding="utf-8")
    for name in ("empty", "texts"):
        with pytest.raises(BadInput, match=name) as error:
            call("AtelierLoadImageFolder", folder=name)
        assert "\n" not in str(error.value)


def test_a_missing_caption_is_named(filtered: Curation, places: Path) -> None:
    curation = filtered
    with pytest.raises(BadInput, match=r"frame_\d+\.jpg"):
        call("AtelierPrepareDataset", curation=curation, name="film")
