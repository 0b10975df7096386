"""The configuration file: what is wrong is said at once and in words, what is right survives a round trip."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lora_atelier.core.errors import BadInput
from lora_atelier.core.types import Prompt, ValidationPlan
from lora_atelier.trainer.config import (
    TrainConfig,
    config_from,
    config_hash,
    load_config,
    parse_config,
    to_toml,
    validation_from_plan,
)

_TEXT = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=60)
_NAME = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,20}", fullmatch=True).filter(
    lambda name: name.lower() not in {"con", "prn", "aux", "nul"} and name[:3].lower() not in {"com", "lpt"}
)
_PROMPTS = st.lists(
    st.builds(lambda name, text: {"id": name, "text": text, "kind": "off_domain"}, _NAME, _TEXT),
    max_size=3, unique_by=lambda prompt: prompt["id"],
)  # fmt: skip
_VALUES = st.fixed_dictionaries(
    {},
    optional={
        "network": st.fixed_dictionaries({"dim": st.integers(1, 1024), "alpha": st.floats(0.001, 4096)}),
        "optimizer": st.fixed_dictionaries(
            {"learning_rate": st.floats(0, 1), "text_encoder_learning_rate": st.none() | st.floats(0, 1)}
        ),
        "schedule": st.fixed_dictionaries(
            {"max_steps": st.integers(1, 10**7), "seed": st.integers(0, 2**63 - 1), "min_snr_gamma": st.floats(0, 1000)}
        ),
        "data": st.fixed_dictionaries({"flip": st.booleans(), "folder": _TEXT}),
        "validation": st.fixed_dictionaries(
            {"prompts": _PROMPTS, "negative": _TEXT, "seeds": st.lists(st.integers(0, 2**63 - 1), max_size=4)}
        ),
    },
)


@given(_VALUES)
@settings(max_examples=60, deadline=None)
def test_toml_round_trip(values: dict[str, Any]) -> None:
    config = config_from(values)
    again = parse_config(to_toml(config))
    assert again == config
    assert config_hash(again) == config_hash(config)


@given(st.text(max_size=200))
@settings(max_examples=60, deadline=None)
def test_any_text_is_a_configuration_or_bad_input(text: str) -> None:
    try:
        parse_config(text)
    except BadInput as error:
        assert error.message


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[optimizer]\nlearning_rat = 1", "no key 'optimizer.learning_rat' (did you mean 'optimizer.learning_rate'?)"),
        ("learning_rate = 1e-4", "no key 'learning_rate' (did you mean 'optimizer.learning_rate'?)"),
        ("[netwrok]\ndim = 4", "no key 'netwrok' (did you mean 'network'?)"),
        ('[[validation.prompts]]\nid = "a"\ntxt = "x"', "no key 'validation.prompts.0.txt' (did you mean"),
        ("[network]\ndim = 0", "network.dim = 0: input should be greater than or equal to 1"),
        ("[optimizer]\nlearning_rate = nan", "optimizer.learning_rate = nan: input should be a finite number"),
        ("[data]\nflip = 1", "data.flip = 1: input should be a valid boolean"),
        ("[network]\ndim = true", "network.dim = True: input should be a valid integer"),
        ('[schedule]\nscheduler = "os.system"', "schedule.scheduler = 'os.system': input should be 'constant'"),
        ('[output]\nname = "../up"', "output.name: The name '../up' cannot be used as a file name"),
        ("[data]\nresolution = 100", "data.resolution = 100: input should be a multiple of 8"),
        ("[schedule]\nwarmup_steps = 9\nmax_steps = 3", "schedule.warmup_steps is larger than schedule.max_steps"),
        ("[network", "is not valid TOML"),
        ('[[validation.prompts]]\nid = "a/b"\ntext = "x"', "prompt id 'a/b'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "train.toml"
    path.write_text(text)
    with pytest.raises(BadInput) as caught:
        load_config(path)
    assert sentence in caught.value.message or sentence.replace("The name", "the name") in caught.value.message
    assert "train.toml" in caught.value.message
    assert caught.value.exit_code == 2


def test_all_problems_are_in_one_sentence() -> None:
    with pytest.raises(BadInput) as caught:
        parse_config("[network]\ndim = -1\ndropuot = 0.1\n[schedule]\nbatch_size = 0")
    assert [part in str(caught.value) for part in ("network.dim", "'network.dropout'", "schedule.batch_size")] == [
        True
    ] * 3


def test_missing_and_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no configuration file"):
        load_config(tmp_path / "none.toml")
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match="cannot be read as text"):
        load_config(tmp_path / "b.toml")


def test_plan_of_a_configuration_and_back() -> None:
    plan = ValidationPlan((Prompt("a", "text"),), (4, 5), width=96, height=128, sampler="euler", cfg=3.0)
    section = validation_from_plan(plan, every_steps=7)
    config = TrainConfig(validation=section)
    assert section.every_steps == 7 and config.plan() == plan
    assert (TrainConfig().plan().width, TrainConfig().plan().height) == (512, 512)


def test_every_key_is_documented() -> None:
    document = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
    for name, field in TrainConfig.model_fields.items():
        assert field.annotation is not None
        for key in getattr(field.annotation, "model_fields", {}):
            assert f"`{name}.{key}`" in document
