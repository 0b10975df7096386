"""Whatever a file claims, it is either read right or refused at once with a reason."""

from __future__ import annotations

import json
import os
import pickle
import struct
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from lora_atelier.core import tensorfile
from lora_atelier.core.errors import BadInput

QUIET = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]}
NUMPY_TYPES = ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?"]


def raw_file(path: Path, header: bytes | dict[str, Any], data: bytes = b"", length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def entry(dtype: str = "F32", shape: Any = (1,), offsets: Any = (0, 4)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@given(
    tensors=st.dictionaries(
        st.text(min_size=1, max_size=12).filter(lambda name: name != "__metadata__" and name.isprintable()),
        st.sampled_from(NUMPY_TYPES).flatmap(
            lambda code: hnp.arrays(np.dtype(code), hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
        ),
        max_size=5,
    ),
    metadata=st.dictionaries(st.text(max_size=8), st.text(max_size=20), max_size=4),
)
@settings(max_examples=60, **QUIET)
def test_what_is_saved_is_loaded_here_and_by_the_reference_library(
    tmp_path: Path, tensors: dict[str, np.ndarray], metadata: dict[str, str]
) -> None:
    from safetensors import safe_open

    path = tensorfile.save(tmp_path / "a.safetensors", tensors, metadata)
    ours = tensorfile.load(path)
    assert ours.keys() == tensors.keys()
    assert tensorfile.read_header(path).metadata == metadata
    with safe_open(path, "np") as theirs:
        assert set(theirs.keys()) == tensors.keys()
        assert (theirs.metadata() or {}) == metadata
        for name, tensor in tensors.items():
            for read in (ours[name], theirs.get_tensor(name)):
                assert read.dtype == tensor.dtype
                assert read.shape == tensor.shape
                np.testing.assert_array_equal(read, tensor)


@given(hnp.arrays(np.float32, hnp.array_shapes(max_side=8)))
@settings(max_examples=80, **QUIET)
def test_bfloat16_is_rounded_to_the_nearest_and_survives_a_second_trip(tmp_path: Path, array: np.ndarray) -> None:
    path = tensorfile.save(tmp_path / "b.safetensors", {"x": tensorfile.encode(array, "BF16")})
    once = tensorfile.load(path)["x"]
    assert once.dtype == np.float32
    ordinary = np.isfinite(array) & (np.abs(array) < 3e38) & (np.abs(array) > 1e-37)
    assert np.all(np.abs(once[ordinary] - array[ordinary]) <= np.abs(array[ordinary]) * 2.0**-8)
    np.testing.assert_array_equal(np.isnan(once), np.isnan(array))
    again = tensorfile.encode(once, "BF16")
    np.testing.assert_array_equal(again.data, tensorfile.encode(array, "BF16").data)  # type: ignore[union-attr]


def test_eight_bit_floats_have_their_documented_values(tmp_path: Path) -> None:
    codes = np.array([0x00, 0x01, 0x08, 0x38, 0x7E, 0x7F, 0xB8], dtype=np.uint8)
    path = tensorfile.save(tmp_path / "e.safetensors", {"x": tensorfile.Encoded("F8_E4M3", codes)})
    expected = [0.0, 2.0**-9, 2.0**-6, 1.0, 448.0, np.nan, -1.0]
    np.testing.assert_array_equal(tensorfile.load(path)["x"], np.array(expected, dtype=np.float32))
    codes = np.array([0x00, 0x01, 0x3C, 0x7B, 0x7C, 0xBC], dtype=np.uint8)
    path = tensorfile.save(tmp_path / "e.safetensors", {"x": tensorfile.Encoded("F8_E5M2", codes)})
    expected = [0.0, 2.0**-16, 1.0, 57344.0, np.inf, -1.0]
    np.testing.assert_array_equal(tensorfile.load(path)["x"], np.array(expected, dtype=np.float32))


def test_finite_report_names_the_bad_tensors(tmp_path: Path) -> None:
    good, bad = np.zeros((3, 3), dtype=np.float16), np.array([1.0, np.inf], dtype=np.float32)
    path = tensorfile.save(tmp_path / "f.safetensors", {"good": good, "bad": bad, "count": np.array(3)})
    assert tensorfile.verify_finite(path) == tensorfile.FiniteReport(3, ("bad",), False)
    path = tensorfile.save(tmp_path / "z.safetensors", {"good": good})
    assert tensorfile.verify_finite(path) == tensorfile.FiniteReport(1, (), True)


def test_content_hash_ignores_the_header(tmp_path: Path) -> None:
    tensors = {"b": np.arange(4, dtype=np.float16), "a": np.ones((2, 2), dtype=np.float32)}
    first = tensorfile.save(tmp_path / "1.safetensors", tensors, {"note": "x"})
    second = tensorfile.save(tmp_path / "2.safetensors", dict(reversed(tensors.items())), {"note": "y" * 100})
    assert tensorfile.file_content_hash(first) == tensorfile.file_content_hash(second)
    assert tensorfile.file_content_hash(first) == tensorfile.content_hash(tensors)


def _many(count: int) -> bytes:
    rows = ",".join(f'"t{i}":{{"dtype":"U8","shape":[1],"data_offsets":[{i},{i + 1}]}}' for i in range(count))
    return f"{{{rows}}}".encode()


BIG = 2**63
MALFORMED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "does not start"),
    "seven bytes": (b"1234567", "does not start"),
    "header of 100 GB": (struct.pack("<Q", 10**11) + b'{"a":1}', "claims 100,000,000,000 bytes"),
    "header of 2^64-1": (b"\xff" * 8 + b"{}", "claims"),
    "huge metadata": (b'{"__metadata__":{"a":"' + b"x" * (50 * 2**20) + b'"}}', "larger than"),
    "200 k tensors": (_many(200_000), "tensors, more than"),
    "not UTF-8": (b'{"\xff\xfe":1}', "not UTF-8"),
    "not JSON": (b'{"a":', "not valid JSON"),
    "NaN": (b'{"a":NaN}', "not valid JSON"),
    "a list": (b"[1,2,3]", "does not start"),
    "deep nesting": (b'{"a":' * 90_000, "not valid JSON|nested too deeply"),
    "endless digits": (b'{"a":' + b"9" * 100_000 + b"}", "not valid JSON|not dtype"),
    "duplicate key": (b'{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{}}', "occurs twice"),
    "lone surrogate": (b'{"\\ud800":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}', "unusable name"),
    "empty name": (json.dumps({"": entry("U8", [0], [0, 0])}).encode(), "unusable name"),
    "metadata not texts": (b'{"__metadata__":{"a":1}}', "not a table of texts"),
    "entry not a table": (b'{"a":[]}', "is not dtype, shape and data_offsets"),
    "entry with more": (json.dumps({"a": {**entry(), "x": 1}}).encode(), "is not dtype"),
    "unknown dtype": (json.dumps({"a": entry("F3")}).encode(), "unknown dtype"),
    "dtype not text": (json.dumps({"a": entry([])}).encode(), "unknown dtype"),  # type: ignore[arg-type]
    "negative shape": (json.dumps({"a": entry(shape=[-1])}).encode(), "impossible shape"),
    "shape of truths": (json.dumps({"a": entry(shape=[True])}).encode(), "impossible shape"),
    "shape of fractions": (json.dumps({"a": entry(shape=[1.0])}).encode(), "impossible shape"),
    "shape overflow": (json.dumps({"a": entry(shape=[2**62, 2**62, 2**62])}).encode(), "but is given"),
    "shape too large": (json.dumps({"a": entry(shape=[BIG])}).encode(), "impossible shape"),
    "too many dimensions": (json.dumps({"a": entry(shape=[1] * 40)}).encode(), "impossible shape"),
    "negative offsets": (json.dumps({"a": entry(offsets=[-4, 0])}).encode(), "impossible data_offsets"),
    "reversed offsets": (json.dumps({"a": entry(offsets=[4, 0])}).encode(), "but is given"),
    "three offsets": (json.dumps({"a": entry(offsets=[0, 4, 8])}).encode(), "impossible data_offsets"),
    "beyond the end": (json.dumps({"a": entry(shape=[2**40], offsets=[0, 2**42])}).encode(), "cut off"),
}


@pytest.mark.parametrize("case", MALFORMED, ids=str)
def test_malformed_headers_are_refused_at_once_with_a_reason(tmp_path: Path, case: str) -> None:
    content, reason = MALFORMED[case]
    path = tmp_path / "bad.safetensors"
    if content.startswith((b"{", b"[")):
        raw_file(path, content)
    else:
        path.write_bytes(content)
    started = time.process_time()
    with pytest.raises(BadInput, match=reason):
        tensorfile.read_header(path)
    assert time.process_time() - started < 1.0


@pytest.mark.parametrize(
    ("header", "size", "reason"),
    [
        ({"a": entry(offsets=[0, 4]), "b": entry(offsets=[2, 6])}, 6, "overlaps"),
        ({"a": entry(offsets=[0, 4]), "b": entry(offsets=[0, 4])}, 4, "overlaps"),
        ({"a": entry(offsets=[0, 4]), "b": entry(offsets=[8, 12])}, 12, "unused bytes"),
        ({"a": entry(offsets=[4, 8])}, 8, "unused bytes"),
        ({"a": entry(shape=[2], offsets=[0, 8])}, 7, "cut off"),
        ({"a": entry()}, 9, "5 unexplained bytes follow"),
        ({}, 1, "unexplained bytes"),
    ],
)
def test_tensor_part_must_be_covered_exactly(tmp_path: Path, header: dict[str, Any], size: int, reason: str) -> None:
    with pytest.raises(BadInput, match=reason):
        tensorfile.read_header(raw_file(tmp_path / "bad.safetensors", header, bytes(size)))


def test_other_formats_under_a_wrong_name_are_called_by_theirs(tmp_path: Path) -> None:
    path = tmp_path / "renamed.safetensors"
    path.write_bytes(pickle.dumps({"a": 1}, protocol=4))
    with pytest.raises(BadInput, match="Python pickle"):
        tensorfile.load(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.pkl", b"x")
    with pytest.raises(BadInput, match="zip archive"):
        tensorfile.load(path)
    path.write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(BadInput, match="Git LFS"):
        tensorfile.load(path)


def test_missing_files_folders_and_pipes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="does not exist"):
        tensorfile.read_header(tmp_path / "none.safetensors")
    with pytest.raises(BadInput, match="not a regular file"):
        tensorfile.read_header(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.safetensors")
        with pytest.raises(BadInput, match="not a regular file"):
            tensorfile.read_header(tmp_path / "pipe.safetensors")


def test_a_truncation_at_any_byte_is_refused(tmp_path: Path) -> None:
    whole = tensorfile.save(tmp_path / "w.safetensors", {"a": np.ones(3, dtype=np.float32)}, {"k": "v"}).read_bytes()
    cut = tmp_path / "cut.safetensors"
    for length in range(len(whole)):
        cut.write_bytes(whole[:length])
        with pytest.raises(BadInput):
            tensorfile.load(cut)


def _fuzz(tmp_path: Path, examples: int) -> None:
    good = tensorfile.save(
        tmp_path / "g.safetensors", {"a": np.ones((2, 3), dtype=np.float16)}, {"k": "v"}
    ).read_bytes()
    path = tmp_path / "fuzz.safetensors"
    junk = st.recursive(
        st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=6),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
        max_leaves=8,
    )
    naturals = st.lists(st.integers(-2, 2**66), max_size=4)
    rows = st.fixed_dictionaries(
        {
            "dtype": st.sampled_from([*tensorfile.ITEM_BYTES, "X"]),
            "shape": naturals | junk,
            "data_offsets": naturals | junk,
        }
    )
    headers = st.dictionaries(st.sampled_from(["a", "b", "__metadata__", "\x00"]), rows | junk, max_size=4)
    edits = st.lists(st.tuples(st.integers(0, len(good) - 1), st.integers(0, 255)), min_size=1, max_size=6)

    @given(header=headers | edits, data=st.binary(max_size=16))
    @settings(max_examples=examples, **QUIET)
    def attempt(header: Any, data: bytes) -> None:
        if isinstance(header, list):
            changed = bytearray(good)
            for position, value in header:
                changed[position] = value
            path.write_bytes(bytes(changed))
        else:
            raw_file(path, header, data)
        try:
            tensors = tensorfile.load(path)
        except BadInput as error:
            assert error.message.startswith("fuzz.safetensors is not a usable")
            error.message.encode()  # printable anywhere
        else:
            assert all(tensor.nbytes <= path.stat().st_size * 4 for tensor in tensors.values())

    attempt()


def test_fuzzed_files_are_read_or_refused_but_never_crash(tmp_path: Path) -> None:
    _fuzz(tmp_path, 300)


@pytest.mark.slow
def test_ten_thousand_fuzzed_files(tmp_path: Path) -> None:
    _fuzz(tmp_path, 10_000)


def test_unwritable_input_is_refused_before_a_file_appears(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    for tensors in (
        {"": np.ones(1)},
        {"__metadata__": np.ones(1)},
        {"\ud800": np.ones(1)},
        {"c": np.ones(1, dtype=complex)},
    ):
        with pytest.raises(BadInput):
            tensorfile.save(path, tensors)
    with pytest.raises(BadInput, match="Write less metadata"):
        tensorfile.save(path, {"a": np.ones(1)}, {"k": "x" * (17 * 2**20)})
    assert list(tmp_path.iterdir()) == []
