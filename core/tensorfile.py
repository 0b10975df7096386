"""Reading, checking and writing `.safetensors` with numpy alone: nothing claimed by a header is believed unchecked.

Format: 8 bytes little-endian header length, a JSON object, then the tensors' bytes without holes
(huggingface/safetensors README, "Format"). Limits here are tighter than the reference reader's 100 MB, so that a
hostile file is refused in well under a second.
"""

from __future__ import annotations

import hashlib
import json
import math
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np

from .errors import BadInput
from .files import publish

MAX_HEADER_BYTES = 16 * 2**20  # real checkpoints stay below 2 MB, LoRAs with huge tag tables below 8 MB
MAX_TENSORS = 65_536
MAX_DIMENSIONS = 16
_CHUNK = 8 * 2**20

ITEM_BYTES = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2}
ITEM_BYTES |= {"F8_E4M3": 1, "F8_E5M2": 1, "I8": 1, "U8": 1, "BOOL": 1}
FLOATS = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"})
_NUMPY = {"F64": "<f8", "I64": "<i8", "U64": "<u8", "F32": "<f4", "I32": "<i4", "U32": "<u4", "F16": "<f2"}
_NUMPY |= {"BF16": "<u2", "I16": "<i2", "U16": "<u2", "F8_E4M3": "u1", "F8_E5M2": "u1", "I8": "i1", "U8": "u1"}
_NUMPY |= {"BOOL": "?"}
_NAME_OF = {np.dtype(code): name for name, code in _NUMPY.items() if name not in {"BF16", "F8_E4M3", "F8_E5M2"}}

_IMPOSTORS = (
    (b"PK\x03\x04", "a zip archive (such as PyTorch's .pt or .ckpt)"),
    (b"\x80", "a Python pickle (such as an old .ckpt or .pt)"),
    (b"GGUF", "a GGUF file"),
    (b"\x89HDF", "an HDF5 file"),
    (b"version ", "a Git LFS pointer, not the file itself"),
    (b"<", "a web page"),
)


@dataclass(frozen=True)
class TensorInfo:
    """One tensor as the header describes it; `start` and `end` are byte offsets into the tensor part."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class Header:
    """A checked header. `data_start` is where the tensor part begins in the file, in bytes."""

    metadata: dict[str, str]
    tensors: dict[str, TensorInfo]
    data_start: int = 8


@dataclass(frozen=True)
class Encoded:
    """Tensor bytes in a dtype that numpy does not have (BF16, F8); `data` holds the raw items."""

    dtype: str
    data: np.ndarray


@dataclass(frozen=True)
class FiniteReport:
    """How many tensors were looked at, which hold NaN or infinity, and whether nothing but zeros was found."""

    tensors: int
    nonfinite: tuple[str, ...] = field(default=())
    all_zero: bool = False


def read_header(path: Path) -> Header:
    """Read and check the header against the file's real size; raise BadInput with the reason when it is malformed."""
    with _open(path) as file:
        return _header(file, path)


def load(path: Path) -> dict[str, np.ndarray]:
    """All tensors by name; BF16 and F8 become float32, every other dtype stays."""
    return dict(stream(path))


def stream(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """One tensor at a time in file order, so that only one needs to be in memory."""
    with _open(path) as file:
        header = _header(file, path)
        for name, info in sorted(header.tensors.items(), key=lambda item: item[1].start):
            file.seek(header.data_start + info.start)
            yield name, _decode(_read(file, info.end - info.start), info.dtype).reshape(info.shape)


def save(path: Path, tensors: Mapping[str, np.ndarray | Encoded], metadata: Mapping[str, str] | None = None) -> Path:
    """Write a whole file atomically; the same input always gives the same bytes."""
    head = _render_header(tensors, dict(metadata or {}))
    with publish(path) as temporary, temporary.open("wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        for name in layout(tensors):
            file.write(_raw(tensors[name]))
    return path


def layout(tensors: Mapping[str, np.ndarray | Encoded]) -> list[str]:
    """Order of the tensors in the file: widest items first, then by name, so that every tensor is aligned."""
    return sorted(tensors, key=lambda name: (-ITEM_BYTES[dtype_name(tensors[name])], name))


def content_hash(tensors: Mapping[str, np.ndarray | Encoded]) -> str:
    """Hex SHA-256 of the tensor part that `save` would write (what `sshs_model_hash` and modelspec mean)."""
    digest = hashlib.sha256()
    for name in layout(tensors):
        digest.update(_raw(tensors[name]))
    return digest.hexdigest()


def file_content_hash(path: Path) -> str:
    """Hex SHA-256 of the tensor part of a file: everything after the header."""
    digest = hashlib.sha256()
    with _open(path) as file:
        file.seek(_header(file, path).data_start)
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def verify_finite(path: Path) -> FiniteReport:
    """Look at every float of the file, a few megabytes at a time."""
    bad: list[str] = []
    zero = True
    with _open(path) as file:
        header = _header(file, path)
        for name, info in header.tensors.items():
            finite, empty = _look(file, header.data_start, info)
            zero = zero and empty
            if not finite:
                bad.append(name)
    return FiniteReport(len(header.tensors), tuple(bad), zero)


def dtype_name(tensor: np.ndarray | Encoded) -> str:
    """The safetensors name of a tensor's dtype; raise BadInput for one the format does not have."""
    if isinstance(tensor, Encoded):
        return tensor.dtype
    name = _NAME_OF.get(tensor.dtype.newbyteorder("<"))
    if name is None:
        raise BadInput(f"A tensor of dtype {tensor.dtype} cannot be stored in a .safetensors file.")
    return name


def encode(array: np.ndarray, dtype: str) -> np.ndarray | Encoded:
    """Convert a float array to F64, F32, F16 or BF16 (rounded to nearest, ties to even)."""
    if dtype in {"F64", "F32", "F16"}:
        with np.errstate(over="ignore"):  # what overflows becomes infinite and is then named by the finite check
            return np.ascontiguousarray(array, dtype=_NUMPY[dtype]).reshape(array.shape)
    if dtype != "BF16":
        raise BadInput(f"Writing {dtype} is not supported.", "Choose F32, F16 or BF16.")
    single = np.ascontiguousarray(array, dtype="<f4").reshape(array.shape)
    bits = single.view("<u4").astype(np.uint64)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    rounded = np.where(np.isnan(single), (bits >> 16) | 0x40, rounded)
    return Encoded("BF16", rounded.astype("<u2"))


def _open(path: Path) -> BinaryIO:
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):  # a pipe would block for ever
            raise BadInput(f"{path} is not a regular file.", "Give a .safetensors file.")
        return path.open("rb")
    except FileNotFoundError as error:
        raise BadInput(f"{path} does not exist.", "Check the path.") from error
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror}).") from error


def _header(file: BinaryIO, path: Path) -> Header:
    size = file.seek(0, 2)
    file.seek(0)
    first = file.read(8)
    length = int.from_bytes(first, "little")
    opening = file.read(1)
    if size < 10 or opening != b"{":
        _refuse(path, _what_it_is(first + opening))
    if length > size - 8:
        _refuse(path, f"its header claims {length:,} bytes but only {size - 8:,} follow (cut off or not safetensors)")
    if length > MAX_HEADER_BYTES:
        _refuse(path, f"its header of {length:,} bytes is larger than {MAX_HEADER_BYTES:,}")
    raw = opening + file.read(length - 1)
    values = _parse(raw, path)
    metadata = _metadata(values.pop("__metadata__", None), path)
    tensors = {name: _tensor(name, value, path) for name, value in values.items()}
    _check_coverage(tensors, size - 8 - length, path)
    return Header(metadata, tensors, 8 + length)


def _what_it_is(first: bytes) -> str:
    for magic, name in _IMPOSTORS:
        if first.startswith(magic):
            return f"it is {name}"
    return "it does not start with a safetensors header"


def _parse(raw: bytes, path: Path) -> dict[str, Any]:
    count = raw.count(b'"data_offsets"')
    if count > MAX_TENSORS:
        _refuse(path, f"it claims {count:,} tensors, more than {MAX_TENSORS:,}")
    try:
        values = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except UnicodeDecodeError:
        _refuse(path, "its header is not UTF-8")
    except RecursionError:
        _refuse(path, "its header is nested too deeply")
    except ValueError as error:
        _refuse(path, f"its header is not valid JSON ({str(error)[:120]})")
    if len(values) > MAX_TENSORS:
        _refuse(path, f"it claims {len(values):,} tensors, more than {MAX_TENSORS:,}")
    return values


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise ValueError(f"the key {_show(twice)} occurs twice")
    return values


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _metadata(value: Any, path: Path) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(entry, str) for entry in value.values()):
        _refuse(path, "its __metadata__ is not a table of texts")
    if not all(_is_text(key) and _is_text(entry) for key, entry in value.items()):
        _refuse(path, "its __metadata__ holds broken Unicode")
    return value


def _tensor(name: str, value: Any, path: Path) -> TensorInfo:
    if not name or not _is_text(name):
        _refuse(path, f"a tensor has the unusable name {_show(name)}")
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        _refuse(path, f"the entry of {_show(name)} is not dtype, shape and data_offsets")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        _refuse(path, f"{_show(name)} has the unknown dtype {_show(dtype)}")
    if not _naturals(shape) or len(shape) > MAX_DIMENSIONS:
        _refuse(path, f"{_show(name)} has the impossible shape {_show(shape)}")
    if not _naturals(offsets) or len(offsets) != 2:
        _refuse(path, f"{_show(name)} has the impossible data_offsets {_show(offsets)}")
    start, end = offsets
    needed = math.prod(shape) * ITEM_BYTES[dtype]
    if end - start != needed:
        _refuse(path, f"{_show(name)} needs {_show(needed)} bytes but is given {_show(end - start)}")
    return TensorInfo(dtype, tuple(shape), start, end)


def _check_coverage(tensors: dict[str, TensorInfo], available: int, path: Path) -> None:
    """The tensors must cover the tensor part exactly: no overlap, no hole, nothing missing, nothing after the end."""
    position = 0
    for name, info in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)):
        if info.start != position:
            fault = "overlaps the tensor before it" if info.start < position else "leaves unused bytes before it"
            _refuse(path, f"{_show(name)} {fault}")
        position = info.end
    if position > available:
        _refuse(path, f"it is cut off: {_show(position)} bytes of tensors are announced, {available:,} are there")
    if position < available:
        _refuse(path, f"{available - position:,} unexplained bytes follow the last tensor")


def _naturals(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 2**63 for item in value)


def _is_text(value: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in value) if not value.isascii() else True


def _show(value: Any) -> str:
    text = f"{value:,}" if type(value) is int and abs(value) < 2**63 else repr(value)[:80]
    return text.encode("ascii", "backslashreplace").decode() if not _is_text(text) else text


def _refuse(path: Path, reason: str) -> NoReturn:
    raise BadInput(f"{path.name} is not a usable .safetensors file: {reason}.", "Download or export it again.")


def _render_header(tensors: Mapping[str, np.ndarray | Encoded], metadata: dict[str, str]) -> bytes:
    table: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    position = 0
    for name in layout(tensors):
        if not name or name == "__metadata__" or not _is_text(name):
            raise BadInput(f"A tensor cannot be called {_show(name)}.")
        dtype, shape = dtype_name(tensors[name]), _shape(tensors[name])
        end = position + math.prod(shape) * ITEM_BYTES[dtype]
        table[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [position, end]}
        position = end
    head = json.dumps(table, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    head += b" " * (-len(head) % 8)
    if len(head) > MAX_HEADER_BYTES:
        raise BadInput(
            f"The header would be {len(head):,} bytes, more than {MAX_HEADER_BYTES:,}.", "Write less metadata."
        )
    return head


def _shape(tensor: np.ndarray | Encoded) -> tuple[int, ...]:
    return (tensor.data if isinstance(tensor, Encoded) else tensor).shape


def _raw(tensor: np.ndarray | Encoded) -> bytes:
    array = tensor.data if isinstance(tensor, Encoded) else tensor
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _read(file: BinaryIO, count: int) -> bytearray:
    """`count` bytes in a buffer of their own, so that the array made of it may be written to without a copy."""
    data = bytearray(count)
    if file.readinto(data) != count:  # type: ignore[attr-defined]
        raise BadInput(f"{file.name} became shorter while it was read.", "Try again once it is complete.")
    return data


def _decode(data: bytes | bytearray, dtype: str) -> np.ndarray:
    items = np.frombuffer(data, dtype=_NUMPY[dtype])
    if dtype == "BF16":
        return (items.astype("<u4") << 16).view("<f4")
    if dtype == "F8_E5M2":  # the upper half of a float16
        return (items.astype("<u2") << 8).view("<f2").astype("<f4")
    if dtype == "F8_E4M3":
        return _e4m3_table()[items]
    return items


def _e4m3_table() -> np.ndarray:
    """The 256 values of float8 e4m3fn: bias 7, no infinities, 0x7F and 0xFF are NaN."""
    codes = np.arange(256)
    exponent, mantissa = (codes >> 3) & 15, (codes & 7) / 8
    value = np.where(exponent == 0, mantissa * 2.0**-6, (1 + mantissa) * 2.0 ** (exponent - 7.0))
    value = np.where(codes & 0x7F == 0x7F, np.nan, value)
    return np.where(codes & 0x80, -value, value).astype("<f4")


def _look(file: BinaryIO, data_start: int, info: TensorInfo) -> tuple[bool, bool]:
    """(all finite, all zero) of one tensor; NaN counts as not zero."""
    file.seek(data_start + info.start)
    left, finite, zero = info.end - info.start, True, True
    while left:
        data = _read(file, min(_CHUNK, left))
        left -= len(data)
        values = _decode(data, info.dtype)
        zero = zero and not np.count_nonzero(values)
        finite = finite and (info.dtype not in FLOATS or bool(np.isfinite(values).all()))
    return finite, zero
