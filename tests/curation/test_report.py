"""What a curation leaves on disk, and how right it is on the project's own film frames."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from lora_atelier.core.errors import BadInput
from lora_atelier.core.faces import FaceFinder
from lora_atelier.core.images import scan
from lora_atelier.core.types import Curation
from lora_atelier.curation import report
from lora_atelier.curation.decisions import by_rule, decision_lines, publish, summary
from lora_atelier.curation.evaluate import against_truth, read_truth
from lora_atelier.curation.histogram import framing_histogram
from lora_atelier.curation.measure import measure_set
from lora_atelier.curation.rules import apply_rules, preset

from .builders import curation, headless, measurement, subject
from .conftest import FILM, Drawer


@pytest.fixture
def messy(drawn: Drawer, finder: FaceFinder) -> Curation:
    """Ten portraits, two crowds, a broken file and a text, in a folder with a hostile name."""
    folder = drawn(10, "a<b>&", framing="portrait", view="front")
    for path in drawn(2, "crowd", characters=3, size=(240, 160)).iterdir():
        path.rename(folder / f"crowd-{path.name}")
    (folder / "zero.jpg").touch()
    (folder / "<script>alert(1)<.png").write_text("no picture")
    return apply_rules(measure_set(scan(folder, "<b>set</b>"), finder, executor="inline"), preset())


def test_one_line_per_file_with_everything(messy: Curation, tmp_path: Path) -> None:
    done = publish(messy, tmp_path / "out", 1.5)
    lines = [json.loads(line) for line in (tmp_path / "out" / "decisions.jsonl").read_text("utf-8").splitlines()]
    assert [line["path"] for line in lines] == sorted(line["path"] for line in lines)
    assert len(lines) == 14
    for line in lines:
        assert list(line) == ["path", "sha256", "decision", "reasons", "measurements"]
        assert line["decision"] in ("keep", "reject", "doubt", "skip")
        assert (line["decision"] == "keep") == (not line["reasons"])
        for reason in line["reasons"]:
            assert list(reason) == ["rule", "measured", "limit", "message"]
    skipped = {line["path"]: line["reasons"][0]["rule"] for line in lines if line["decision"] == "skip"}
    assert skipped == {"zero.jpg": "empty", "<script>alert(1)<.png": "not_a_picture"}
    found = summary(done, 1.5)
    assert list(found) == [
        "images", "kept", "rejected", "doubt", "skipped", "by_rule", "seconds", "decisions", "report",
    ]  # fmt: skip
    assert found["images"] == 14 == found["kept"] + found["rejected"] + found["doubt"] + found["skipped"]
    assert Path(found["decisions"]).is_file()
    assert Path(found["report"]).is_file()
    assert found["by_rule"]["empty"] == 1


def test_overrides_beside_the_output_win(messy: Curation, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    crowd = next(d.path for d in messy.decisions if d.path.startswith("crowd"))
    (out / "overrides.json").write_text(json.dumps({crowd: "keep", "000.png": "reject"}))
    done = publish(messy, out)
    lines = {line["path"]: line for line in decision_lines(done)}
    assert lines[crowd]["decision"] == "keep"
    assert {reason["rule"] for reason in lines[crowd]["reasons"]} >= {"character_count", "override"}
    assert lines["000.png"]["decision"] == "reject"
    assert "you: keep" in (out / "report.html").read_text("utf-8")


def test_nothing_is_written_when_the_overrides_are_wrong(messy: Curation, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "overrides.json").write_text('{"000.png": "yes"}')
    with pytest.raises(BadInput, match="must be keep or reject"):
        publish(messy, out)
    assert [path.name for path in out.iterdir()] == ["overrides.json"]
    with pytest.raises(BadInput, match="is a file"):
        publish(messy, out / "overrides.json")


class Page(HTMLParser):
    """Collects what a browser would fetch, run or show."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.tags: set[str] = set()
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]

    def handle_data(self, data: str) -> None:
        self.words += data


def test_the_report_is_one_safe_file(messy: Curation, tmp_path: Path) -> None:
    publish(messy, tmp_path)
    text = (tmp_path / "report.html").read_text("utf-8")
    page = Page(text)
    assert not page.tags & {"script", "iframe", "link", "object", "embed", "b>set<"}
    assert all(source.startswith(("data:image/", "#")) for source in page.sources)
    assert "url(" not in text
    assert "<script>alert(1)<.png" in page.words
    assert "<b>set</b>" in page.words
    assert str(tmp_path.parent) not in text
    assert text.count("<img") == 12
    assert "prefers-color-scheme:dark" in text
    assert 'name="viewport"' in text


def test_the_funnel_adds_up(messy: Curation) -> None:
    stages = report.funnel(messy)
    counts = [stage.left for stage in stages]
    assert (counts[0], counts[1]) == (14, 12)
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == len(messy.kept())


def test_the_funnel_counts_rejections_before_doubts() -> None:
    rows = {"good": subject(), "two": subject(), "back": headless(view="back"), "head": headless(view=None)}
    given = curation(**{name: measurement(found) for name, found in rows.items()}, empty=measurement())
    given.measurements[given.images.pictures[1].sha256]["subjects"].append(subject())
    stages = report.funnel(apply_rules(given, preset()))
    assert [(stage.left, stage.note) for stage in stages] == [
        (5, ""), (4, "1 rejected"), (4, ""), (3, "1 rejected"), (3, ""), (3, ""), (1, "2 in doubt"), (1, ""),
    ]  # fmt: skip


def test_the_histogram_shows_what_the_band_took_away() -> None:
    usual = {f"p{i}": measurement(subject(0.3)) for i in range(10)}
    given = curation(**usual, far=measurement(subject(0.1)), pair=measurement(subject(0.3), subject(0.3)))
    decided = apply_rules(given, preset())
    histogram = framing_histogram(decided)
    assert histogram is not None
    assert (sum(histogram.before), sum(histogram.after)) == (12, 10)
    assert [after for after in histogram.after if after] == [10]
    assert histogram.band is not None
    assert histogram.band.pictures == 11
    text = report.render(decided, 2.0)
    assert "12 pictures before, 10 after" in text
    assert "learnt from 11 pictures" in text


def test_big_groups_are_capped_and_say_so() -> None:
    rows = {f"p{i:03}": measurement(subject(0.3), subject(0.3)) for i in range(report.CARDS_PER_GROUP + 5)}
    text = report.render(apply_rules(curation(**rows), preset()))
    assert text.count('<figure class="pic">') == report.CARDS_PER_GROUP
    assert f"{len(rows)}, {report.CARDS_PER_GROUP} shown" in text
    assert "has moved or changed" in text


def test_groups_show_the_most_contestable_first() -> None:
    rows = {f"p{px}": measurement(subject(px / 640, face_px=float(px))) for px in (5, 23, 14)}
    text = report.render(apply_rules(curation(**rows), [preset()[1]]))
    order = re.findall(r'class="path">(p\d+)\.png', text)
    assert order == ["p23", "p14", "p5"]


def test_a_picture_counts_once_per_rule() -> None:
    bad = subject(0.01, face_sharpness=1.0)
    decided = apply_rules(curation(a=measurement(bad), b=measurement(subject())), preset()[:2])
    assert by_rule(decided) == {"character_count": 0, "face_detail": 1}


def test_truth_in_both_forms(tmp_path: Path) -> None:
    rows = {"good": subject(), "blur": subject(face_sharpness=1.0), "missed": subject()}
    given = curation(
        **{name: measurement(found) for name, found in rows.items()}, two=measurement(subject(), subject())
    )
    decided = apply_rules(given, preset()[:2])
    faults = tmp_path / "faults.jsonl"
    pairs = (("good", None), ("blur", "detail"), ("missed", "detail"), ("two", "several"))
    faults.write_text("".join(json.dumps({"file": f"{n}.png", "fault": f, "domain": "drawn"}) + "\n" for n, f in pairs))
    found = against_truth(decided, faults)
    assert found["keep"] == {"precision": 0.5, "recall": 1.0, "tp": 1, "fp": 1, "fn": 0, "tn": 2}
    assert found["rules"]["face_detail"] == {
        "precision": 1.0,
        "recall": 0.5,
        "tp": 1,
        "fp": 0,
        "fn": 1,
        "tn": 1,
        "other": 0,
    }
    assert found["verdicts_by_fault"]["detail"] == {"reject": 1, "keep": 1}
    assert found["keep_by_domain"]["drawn"]["tp"] == 1
    labels = tmp_path / "labels.jsonl"
    row = {"characters": 1, "face_detail": "clear", "view": "front"}
    labels.write_text(
        json.dumps({"file": "x/good.png", **row}) + "\n" + json.dumps({"file": "two.png", **row, "characters": 2})
    )
    assert [truth.fault for truth in read_truth(labels)] == [None, "several"]
    assert against_truth(decided, labels)["pictures"] == 2


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"file": "a", "fault": "ugly"}', "unknown fault 'ugly'"),
        ('{"fault": null}', "line 1, has no `file`"),
        ('{"file": "a"}', "neither `fault` nor"),
        ("[]\n{}", "line 1"),
        ('{"file": "elsewhere.png", "fault": null}', "names none of the pictures"),
    ],
)
def test_wrong_truth_is_one_sentence(tmp_path: Path, line: str, words: str) -> None:
    path = tmp_path / "truth.jsonl"
    path.write_text(line)
    with pytest.raises(BadInput) as caught:
        against_truth(curation(a=measurement(subject())), path)
    assert words in str(caught.value)
    with pytest.raises(BadInput, match="does not exist"):
        read_truth(tmp_path / "none.jsonl")


def test_the_project_s_own_film_is_filtered_rightly(film: Curation) -> None:
    """The figures that the demo prints: every rule against the artist's truth."""
    found = against_truth(apply_rules(film, preset()), FILM / "film-truth.jsonl")
    assert found["pictures"] == 72
    assert found["keep"]["precision"] >= 0.85
    assert found["keep"]["recall"] >= 0.85
    for rule, recall in (("character_count", 0.7), ("face_detail", 0.8), ("view", 0.8)):
        assert found["rules"][rule]["recall"] >= recall, rule
        assert found["rules"][rule]["precision"] >= 0.75, rule


def test_a_report_without_framing_or_faces_renders() -> None:
    nobody = apply_rules(curation(a=measurement(), b=measurement()), preset())
    text = report.render(nobody)
    assert "Nobody found" in text
    assert 'id="framing"' not in text
    bare = replace(curation(a=measurement(subject())), rules=())
    assert "Kept" in report.render(bare)
