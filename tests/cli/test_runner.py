"""The headless runner against small V1 classes: order, refusals and checks are ComfyUI's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
from lora_atelier.cli import runner
from lora_atelier.core.errors import BadInput, WorkFailed


class Number:
    RETURN_TYPES = ("INT",)
    FUNCTION = "make"
    calls: ClassVar[list[int]] = []

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"value": ("INT", {"default": 1, "min": 0, "max": 100})}}

    def make(self, value: int) -> tuple[int]:
        Number.calls.append(value)
        return (value,)


class Add:
    RETURN_TYPES = ("INT",)
    FUNCTION = "add"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {"a": ("INT", {"forceInput": True}), "b": ("INT", {"default": 0})},
            "optional": {"c": ("INT",)},
        }

    def add(self, a: int, b: int, c: int = 0) -> tuple[int]:
        return (a + b + c,)


class Show:
    RETURN_TYPES = ()
    FUNCTION = "show"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "value": ("INT", {}),
                "mode": (["plain", "fancy"], {}),
                "share": ("FLOAT", {"default": 0.5, "min": 0.0, "max": 1.0}),
                "loud": ("BOOLEAN", {"default": False}),
                "text": ("STRING", {"default": ""}),
            },
            "hidden": {"unique_id": "UNIQUE_ID", "prompt": "PROMPT"},
        }

    def show(self, **given: Any) -> dict[str, Any]:
        return {"ui": {"text": [repr({**given, "prompt": len(given["prompt"])})]}, "result": ()}


class Picky(Show):
    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"name": ("STRING", {}), "other": (["a"], {})}}

    @classmethod
    def VALIDATE_INPUTS(cls, name: str, other: str) -> bool | str:
        return True if ".." not in name else "the name leads outside"

    def show(self, **given: Any) -> dict[str, Any]:
        return {"ui": {"text": [given["other"]]}}


class Text:
    RETURN_TYPES = ("STRING",)
    FUNCTION = "make"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {}}

    def make(self) -> tuple[str]:
        return ("words",)


class Listing(Text):
    OUTPUT_IS_LIST = (True,)


class Lazy(Text):
    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"x": ("INT", {"lazy": True})}}


class Expanding(Show):
    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {}}

    def show(self) -> dict[str, Any]:
        return {"expand": {}, "result": ()}


CLASSES: dict[str, Any] = {cls.__name__: cls for cls in (Number, Add, Show, Picky, Text, Listing, Lazy, Expanding)}
SHOW = {"mode": "plain", "share": 0.5, "loud": True, "text": "hi"}


def node(class_type: str, title: str = "", **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs, "_meta": {"title": title or class_type}}


def problems(api: dict[str, Any]) -> str:
    with pytest.raises(BadInput) as caught:
        runner.validate_workflow(runner.check_shape(api), CLASSES)
    return caught.value.message


def test_nodes_run_once_each_sources_first_and_unused_ones_not_at_all() -> None:
    Number.calls.clear()
    api = {
        "9": node("Show", value=["3", 0], **SHOW),
        "3": node("Add", a=["1", 0], b=["2", 0]),
        "1": node("Number", value=4),
        "2": node("Add", a=["1", 0], b="5"),
        "7": node("Number", value=99),
    }
    assert runner.validate_workflow(api, CLASSES) == []
    seen: list[str] = []
    done = runner.execute(api, CLASSES, on_node=lambda node_id, name: seen.append(node_id))
    assert seen == ["1", "2", "3", "9"]
    assert Number.calls == [4]
    assert done.outputs["3"] == (13,)
    shown = done.ui["9"]["text"][0]
    assert "'value': 13" in shown
    assert "'unique_id': '9'" in shown
    assert "'prompt': 5" in shown


def test_all_problems_are_told_at_once() -> None:
    text = problems(
        {
            "1": node("Number", value=101),
            "2": node("Show", "Result", value=["1", 1], mode="fancier", share="nan", loud="maybe"),
            "3": node("Show", value=["4", 0], **SHOW),
            "4": node("Text"),
            "5": node("Show", value=["77", 0], **SHOW),
        }
    )
    assert "value must be between 0 and 100, not 101" in text
    assert "Result (2): value comes from output 1 of Number (1), which has 1" in text
    assert "mode cannot be 'fancier' (did you mean 'fancy'?); choices: 'plain', 'fancy'" in text
    assert "share must be a finite number" in text
    assert "loud must be true or false" in text
    assert "Result (2) lacks its input 'text'" in text
    assert "value needs INT and gets STRING from Text (4)" in text
    assert "node 77, which is not in the workflow" in text
    assert "(8 problems)" in text


def test_an_unknown_class_is_named_with_the_nearest() -> None:
    assert "unknown class 'Nubmer' (did you mean 'Number'?)" in problems({"1": node("Nubmer", value=1)})


def test_values_are_coerced_as_comfyui_does() -> None:
    api = {"1": node("Number", value="7"), "2": node("Show", value=["1", 0], **{**SHOW, "share": "1", "text": 5})}
    runner.validate_workflow(api, CLASSES)
    shown = runner.execute(api, CLASSES).ui["2"]["text"][0]
    assert "'value': 7" in shown
    assert "'share': 1.0" in shown
    assert "'text': '5'" in shown


def test_an_unknown_extra_input_is_only_a_warning() -> None:
    api = {"1": node("Show", value=["2", 0], **SHOW, modee="x"), "2": node("Number", value=1)}
    warnings = runner.validate_workflow(api, CLASSES)
    assert warnings == ["Show (1) has no input 'modee' (did you mean 'mode'?); it is ignored"]
    assert "modee" not in runner.execute(api, CLASSES).ui["1"]["text"][0]


def test_a_node_that_checks_an_input_itself_takes_over_from_the_list() -> None:
    api = {"1": node("Picky", name="ok", other="not in the list")}
    runner.validate_workflow(api, CLASSES)
    assert runner.execute(api, CLASSES).ui["1"]["text"] == ["not in the list"]
    assert "Picky (1): the name leads outside." in problems({"1": node("Picky", name="../x", other="a")})


def test_own_checks_see_wired_inputs_as_none() -> None:
    seen: list[Any] = []

    class Checked(Show):
        @classmethod
        def VALIDATE_INPUTS(cls, value: Any, text: str) -> bool:
            seen.append((value, text))
            return True

    api = {"1": node("Checked", value=["2", 0], **SHOW), "2": node("Number", value=1)}
    runner.validate_workflow(api, {**CLASSES, "Checked": Checked})
    assert seen == [(None, "hi")]


@pytest.mark.parametrize(
    ("class_type", "inputs", "why"),
    [("Listing", {}, "works on lists"), ("Lazy", {"x": 1}, "has lazy inputs")],
)
def test_what_the_runner_cannot_do_is_refused_before_the_start(class_type: str, inputs: Any, why: str) -> None:
    api = {"1": node("Show", **{**SHOW, "value": 1, "text": ["2", 0]}), "2": node(class_type, **inputs)}
    assert why in problems(api)


def test_expansion_is_refused_by_name() -> None:
    api = {"1": node("Expanding", "Grow")}
    runner.validate_workflow(api, CLASSES)
    with pytest.raises(WorkFailed, match=r"Grow \(1\) expands"):
        runner.execute(api, CLASSES)


def test_circles_and_missing_outputs_are_found() -> None:
    circle = {
        "1": node("Add", a=["2", 0], b=1),
        "2": node("Add", a=["1", 0], b=1),
        "3": node("Show", value=["1", 0], **SHOW),
    }
    assert "circle" in problems(circle)
    assert "no output node" in problems({"1": node("Number", value=1)})


@pytest.mark.parametrize("value", [[], {}, 3, None, {"1": {"inputs": {}}}, {"1": {"class_type": "A", "inputs": []}}])
def test_other_json_is_not_a_workflow(value: Any) -> None:
    with pytest.raises(BadInput, match="not a workflow in API format"):
        runner.check_shape(value)


def test_a_ui_format_file_gets_its_own_sentence() -> None:
    with pytest.raises(BadInput, match="UI format") as caught:
        runner.check_shape({"nodes": [], "links": [], "version": 0.4})
    assert "Export (API)" in caught.value.hint


def test_settings_go_by_id_or_title_and_keep_their_type(tmp_path: Path) -> None:
    api = {"1": node("Number", "How many", value=1), "2": node("Show", value=["1", 0], **SHOW)}
    path = tmp_path / "w.json"
    path.write_text(json.dumps(api))
    loaded = runner.load_workflow(path, ["how many.value=5", "2.text=8=8", "2.loud=false", "2.share=0.25"])
    assert loaded["1"]["inputs"]["value"] == 5
    assert loaded["2"]["inputs"] == {**SHOW, "value": ["1", 0], "text": "8=8", "loud": False, "share": 0.25}
    assert api["1"]["inputs"]["value"] == 1


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("value=3", "not of the form"),
        ("1.value", "not of the form"),
        ("1.valeu=3", "did you mean 'value'"),
        ("Numbr.value=3", "did you mean 'Number'"),
        ("2.value=3", "wired to another node"),
        ("Twin.value=3", "2 nodes are called 'Twin' (3, 4)"),
    ],
)
def test_wrong_settings_are_refused(setting: str, message: str) -> None:
    api = {
        "1": node("Number", value=1),
        "2": node("Show", value=["1", 0], **SHOW),
        "3": node("Number", "Twin", value=1),
        "4": node("Number", "Twin", value=1),
    }
    with pytest.raises(BadInput) as caught:
        runner.apply_sets(api, [setting])
    assert message in caught.value.message
