"""The report page: one file, everything escaped, nothing from the network."""

from __future__ import annotations

import base64
import io
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lora_atelier.core.charts import Series, line_chart
from lora_atelier.core.report import Bar, Figure, Funnel, Section, Table, embed, render_report
from PIL import Image

_LOADING = {"src", "srcset", "href", "data", "action", "poster", "background"}


class Page(HTMLParser):
    """Collects what a browser would load, the tags, and the visible text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in _LOADING]

    def handle_data(self, data: str) -> None:
        self.text += data


def _page(tmp_path: Path, *sections: Section, title: str = "Title") -> Page:
    return Page(render_report(title, sections, tmp_path / "report.html").read_text(encoding="utf-8"))


def test_nothing_is_loaded_from_elsewhere(tmp_path: Path) -> None:
    chart = line_chart([Series("a", [1, 2], [1, 2])], tmp_path / "c.svg", title="t", x_label="x", y_label="y")
    picture = Image.new("RGB", (50, 40), (10, 200, 30))
    page = _page(tmp_path, Section("s", "Section", figures=[Figure(chart, "chart"), Figure(picture, "picture")]))
    assert page.tags.count("img") == 2
    assert all(link.startswith(("data:image/", "#")) for link in page.links)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)


@given(st.text(alphabet="<>&\"'/={}%# abc\n", max_size=40))
def test_every_text_is_escaped(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    hostile = f"<script>alert(1)</script>{text}"
    section = Section(
        "s", hostile, hostile, [(hostile, hostile)], [Table((hostile,), [(hostile,)], hostile)],
        [Funnel([Bar(hostile, 3, hostile)], hostile), Figure(Image.new("RGB", (4, 4)), hostile, hostile)],
        [("warn", hostile)], [hostile],
    )  # fmt: skip
    page = _page(tmp_path_factory.mktemp("report"), section, title=hostile)
    assert "script" not in page.tags
    assert page.text.count("<script>alert(1)</script>") >= 11


def test_an_svg_comes_back_as_it_was() -> None:
    svg = '<svg xmlns="http://www.w3.org/2000/svg"><style>a{fill:#fff}</style><text>50 % "ä" <!-- --></text></svg>'
    uri = embed(Figure(svg.encode()))["uri"]
    assert unquote(uri.split(",", 1)[1]) == svg
    assert '"' not in uri and "#" not in uri


def test_large_pictures_are_reduced_and_small_files_kept(tmp_path: Path) -> None:
    large = embed(Figure(Image.effect_noise((2400, 1200), 60), longest_side=600))
    assert (large["width"], large["height"]) == (600, 300)
    with Image.open(io.BytesIO(base64.b64decode(large["uri"].split(",", 1)[1]))) as image:
        assert image.size == (600, 300) and image.format == "WEBP"
    small = tmp_path / "small.png"
    Image.new("RGB", (20, 10), (1, 2, 3)).save(small)
    assert base64.b64decode(embed(Figure(small))["uri"].split(",", 1)[1]) == small.read_bytes()


def test_funnel_bars_are_as_long_as_their_counts(tmp_path: Path) -> None:
    funnel = Funnel(
        [Bar("all", 400), Bar("several people", 100, "one person at most", "removed"), Bar("kept", 0, kind="kept")]
    )
    path = render_report("t", [Section("s", "S", figures=[funnel])], tmp_path / "r.html")
    text = path.read_text(encoding="utf-8")
    assert [text.count(f"--w:{width}") for width in ("100.0", "25.0", "0.0")] == [1, 1, 1]
    assert "one person at most" in text


def test_tables_say_numbers_like_numbers(tmp_path: Path) -> None:
    table = Table(("name", "value"), [("a", 12345), ("b", 0.123456), ("c", None), ("d", True)], highlight=(1,))
    text = render_report("t", [Section("s", "S", tables=[table])], tmp_path / "r.html").read_text(encoding="utf-8")
    for shown in ("12\u2009345", "0.123<", "–", "yes"):
        assert shown in text
    assert text.count('class="hit"') == 1


def test_a_report_of_nothing_is_a_page(tmp_path: Path) -> None:
    assert "h1" in _page(tmp_path).tags
