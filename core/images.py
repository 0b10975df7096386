"""Safe pictures: every file is checked by name, size, content and header before a pixel is decoded.

What comes out is always upright (EXIF orientation applied) 8-bit RGB: CMYK goes through its embedded profile when
there is one, 16-bit grey is divided by 257, float and 32-bit grey are scaled to their range, palettes are expanded,
and anything with transparency is laid on white. Animations and multi-page files give their first frame.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import stat
import struct
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from PIL import Image, ImageOps, features

from .errors import AtelierError, BadInput
from .types import ImageSet, Picture, Skipped

if TYPE_CHECKING:
    import numpy as np

MAX_PIXELS = 64_000_000
MAX_BYTES = 64 * 1024 * 1024
FORMATS: dict[str, str] = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".gif": "GIF",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".avif": "AVIF",
}
CAPTION_SUFFIXES: frozenset[str] = frozenset({".txt", ".caption"})

_ORIENTATION_TAG = 0x0112
# What Pillow's parsers raise on damaged files; anything else would be a bug of ours and may show its traceback.
_DAMAGED = (
    OSError, SyntaxError, ValueError, ArithmeticError, LookupError, TypeError, EOFError, MemoryError, AttributeError,
    RuntimeError, struct.error, zlib.error, Image.DecompressionBombError, Image.DecompressionBombWarning,
)  # fmt: skip


class PictureError(AtelierError):
    """A file that cannot be used as a picture; `rule` is a short id, `message` one sentence."""

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rule = rule


@dataclass(frozen=True)
class Header:
    """What is known before decoding: format name and size in pixels of the upright picture."""

    format: str
    width: int
    height: int
    sha256: str


def scan(root: Path, root_id: str) -> ImageSet:
    """All pictures below `root`, sorted by path; what cannot be used stands in `skipped` with a reason.

    Raises BadInput when `root` is not a folder or holds no usable picture. Captions (`.txt` beside a picture) are not
    listed as skipped.
    """
    if not root.is_dir():
        raise BadInput(f"{str(root)!r} is not a folder.", "Give a folder that holds pictures.")
    base = root.resolve()
    pictures: list[Picture] = []
    skipped: list[Skipped] = []
    for path in _walk(base, skipped):
        relative = path.relative_to(base).as_posix()
        try:
            header = read_header(path, base)
        except PictureError as error:
            skipped.append(Skipped(printable(relative), error.rule, error.message))
        else:
            pictures.append(Picture(relative, header.sha256, header.width, header.height))
    if not pictures:
        raise _no_picture(root, skipped)
    stems = {str(PurePosixPath(picture.path).with_suffix("")) for picture in pictures}
    rest = (item for item in skipped if not _is_caption(item.path, stems))
    return ImageSet(
        root_id,
        str(base),
        tuple(sorted(pictures, key=lambda picture: picture.path)),
        tuple(sorted(rest, key=lambda item: item.path)),
    )


def read_header(path: Path, root: Path | None = None) -> Header:
    """Check a file without decoding it (name, kind, size, content, header, structure); raises PictureError.

    With `root`, a link that leads outside of it is refused.
    """
    data = _read(path, root)
    with _opened(path, data) as image:
        width, height = _upright_size(image)
        return Header(str(image.format), width, height, hashlib.sha256(data).hexdigest())


def open_rgb(path: Path, root: Path | None = None) -> Image.Image:
    """The whole picture, upright, 8-bit RGB; raises PictureError when anything about it is wrong."""
    return _decode(path, _read(path, root), None)


def open_array(path: Path, longest_side: int | None = None, root: Path | None = None) -> np.ndarray:
    """RGB uint8 array (height, width, 3), reduced (never enlarged) so that no side exceeds `longest_side` pixels."""
    import numpy as np

    image = _decode(path, _read(path, root), longest_side)
    return np.asarray(shrink(image, longest_side) if longest_side else image)


def shrink(image: Image.Image, longest_side: int) -> Image.Image:
    """Reduce (never enlarge) to at most `longest_side` pixels; the aspect ratio stays."""
    scale = longest_side / max(image.size)
    if scale >= 1:
        return image
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.HAMMING, reducing_gap=3.0)


def data_uri(image: Image.Image, longest_side: int, quality: int = 80) -> str:
    """The picture as a small `data:` URI (WebP where Pillow can write it, else JPEG) for self-contained pages."""
    kind = "WEBP" if features.check("webp") else "JPEG"
    buffer = io.BytesIO()
    shrink(image.convert("RGB"), longest_side).save(buffer, kind, quality=quality)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def printable(path: str) -> str:
    """A path that can stand in JSON: bytes that are not UTF-8 become `\\udc..` escapes."""
    return path.encode("utf-8", "backslashreplace").decode("utf-8")


def _walk(base: Path, skipped: list[Skipped]) -> Iterator[Path]:
    """Regular files and file links below `base`; folders behind links are not followed, so loops cannot happen."""
    folders = [base]
    while folders:
        folder = folders.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            name = printable(folder.relative_to(base).as_posix())
            skipped.append(Skipped(name, "unreadable", f"The folder cannot be read ({error.strerror})."))
            continue
        for entry in entries:
            path = Path(entry.path)
            if entry.is_dir(follow_symlinks=False):
                folders.append(path)
            elif entry.is_symlink() and path.is_dir():
                name = printable(path.relative_to(base).as_posix())
                skipped.append(Skipped(name, "link", "A linked folder is not followed."))
            else:
                yield path


def _read(path: Path, root: Path | None) -> bytes:
    """The file's bytes after checks on name, kind and size. One open descriptor, so nothing can be swapped between."""
    expected = FORMATS.get(path.suffix.lower())
    try:
        path.name.encode("utf-8")
        str(path if root is None else path.relative_to(root)).encode("utf-8")
    except UnicodeEncodeError:
        raise PictureError("name", "The file name is not valid UTF-8; rename it.") from None
    if expected is None:
        kind = f"the ending {path.suffix}" if path.suffix else "no ending"
        raise PictureError("not_a_picture", f"The file has {kind}, which is not a picture format.")
    target = _target(path, root)
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    try:
        if not stat.S_ISREG(target.stat().st_mode):  # opening a device or a pipe can already have an effect
            raise PictureError("special", "This is not a regular file (a pipe, socket or device).")
        with os.fdopen(os.open(target, flags), "rb") as file:
            return _read_open(file)
    except OSError as error:
        raise PictureError("unreadable", f"The file cannot be read ({error.strerror or error}).") from error


def _target(path: Path, root: Path | None) -> Path:
    try:
        target = path.resolve()
    except (OSError, RuntimeError):  # a loop of links
        raise PictureError("link", "The link cannot be followed.") from None
    if root is not None and root.resolve() not in target.parents:
        raise PictureError("link", "The link leads outside the folder.")
    return target


def _read_open(file: io.BufferedReader) -> bytes:
    facts = os.fstat(file.fileno())
    if not stat.S_ISREG(facts.st_mode):
        raise PictureError("special", "This is not a regular file (a pipe, socket or device).")
    if facts.st_size == 0:
        raise PictureError("empty", "The file is empty (0 bytes).")
    if facts.st_size > MAX_BYTES:
        size = facts.st_size / 2**20
        raise PictureError("too_large", f"The file has {size:.0f} MiB; the limit is {MAX_BYTES // 2**20} MiB.")
    return file.read(MAX_BYTES)


def _opened(path: Path, data: bytes) -> Image.Image:
    """A Pillow image of which only the header was read, after all checks that need no decoding."""
    expected = FORMATS[path.suffix.lower()]
    found = sniff(data)
    if found is None:
        raise PictureError("not_a_picture", f"The file is named {path.suffix} but does not hold a picture we know.")
    if found != expected:
        raise PictureError("wrong_ending", f"The file is named {path.suffix} but holds {found}; rename it.")
    if is_cut_off(data, found):
        raise PictureError("truncated", f"The {found} file ends before the picture does.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=[found])
    except Image.DecompressionBombError:
        raise PictureError("too_many_pixels", f"The picture has over {MAX_PIXELS // 10**6} megapixels.") from None
    except _DAMAGED as error:
        raise PictureError("damaged", f"The {found} header cannot be read ({_short(error)}).") from error
    width, height = image.size
    if width * height > MAX_PIXELS:
        megapixels = width * height / 1e6
        text = f"The picture has {megapixels:.0f} megapixels; the limit is {MAX_PIXELS // 10**6}."
        raise PictureError("too_many_pixels", text)
    return image


def _decode(path: Path, data: bytes, longest_side: int | None) -> Image.Image:
    with _opened(path, data) as image:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if longest_side and image.format == "JPEG":  # libjpeg decodes at 1/2, 1/4 or 1/8 for less work
                    image.draft(None, (longest_side, longest_side))
                image.load()
                return _to_rgb(_upright(image))
        except _DAMAGED as error:
            rule = "truncated" if "truncated" in str(error).lower() else "damaged"
            raise PictureError(rule, f"The {image.format} data cannot be decoded ({_short(error)}).") from error


def sniff(data: bytes) -> str | None:
    """The format that the first bytes claim, or None."""
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "TIFF"
    if data[4:8] == b"ftyp" and any(brand in data[8:64] for brand in (b"avif", b"avis")):
        return "AVIF"
    return "BMP" if data.startswith(b"BM") else None


def is_cut_off(data: bytes, kind: str) -> bool:
    """True when the container itself ends too early: JPEG without EOI, PNG without IEND, WebP shorter than it says."""
    if kind == "JPEG":
        start = _jpeg_scan_start(data)
        return start is None or data.rfind(b"\xff\xd9", start) < 0
    if kind == "PNG":
        return not _png_is_whole(data)
    if kind == "WEBP":
        return struct.unpack_from("<I", data.ljust(8, b"\0"), 4)[0] + 8 > len(data) + 1  # padding byte may be missing
    return False


def _jpeg_scan_start(data: bytes) -> int | None:
    """Offset behind the first start-of-scan header (so that an EXIF thumbnail's end marker is not mistaken)."""
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            at += 1
            continue
        marker = data[at + 1]
        if marker in (0xFF, 0x00, 0x01) or 0xD0 <= marker <= 0xD8:
            at += 1 if marker == 0xFF else 2
            continue
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xDA:
            return at
    return None


def _png_is_whole(data: bytes) -> bool:
    at = 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] == b"IEND":
            return True
        at += 12 + length
    return False


def _upright_size(image: Image.Image) -> tuple[int, int]:
    # Pillow's TIFF reader tells (and decodes to) the upright size by itself.
    turned = image.format != "TIFF" and 5 <= _orientation(image) <= 8
    return (image.height, image.width) if turned else image.size


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except _DAMAGED:  # broken EXIF does not make the pixels wrong
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except _DAMAGED:
        return image.copy()


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image if type(image) is Image.Image else image.copy()
    if image.mode.startswith("I") or image.mode == "F":
        return _deep_grey(image)
    if image.mode == "CMYK":
        return _from_cmyk(image)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")


def _deep_grey(image: Image.Image) -> Image.Image:
    """16-bit grey / 257; 32-bit and float by their range. A plain convert would clip nearly all of it to white."""
    import numpy as np

    values = np.nan_to_num(np.asarray(image, dtype=np.float64), posinf=0.0, neginf=0.0)
    top = float(values.max(initial=0.0))
    levels = (65535.0,) if image.mode.startswith("I") else (1.0, 255.0)
    full = next((level for level in levels if top <= level), top)
    return Image.fromarray(np.clip(values * (255.0 / full) + 0.5, 0, 255).astype(np.uint8)).convert("RGB")


def _from_cmyk(image: Image.Image) -> Image.Image:
    profile = image.info.get("icc_profile")
    if profile:
        from PIL import ImageCms

        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            turned = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
            if turned is not None:
                return turned
        except (ImageCms.PyCMSError, *_DAMAGED):  # an unusable profile: fall back to the plain formula
            pass
    return image.convert("RGB")


def _is_caption(path: str, stems: set[str]) -> bool:
    pure = PurePosixPath(path)
    return pure.suffix.lower() in CAPTION_SUFFIXES and str(pure.with_suffix("")) in stems


def _no_picture(root: Path, skipped: list[Skipped]) -> BadInput:
    hint = "Give a folder with JPEG, PNG, WebP, BMP, GIF, TIFF or AVIF pictures."
    name = root.name or str(root)
    if not skipped:
        return BadInput(f"The folder {name!r} is empty.", hint)
    first = skipped[0]
    text = f"The folder {name!r} holds {len(skipped)} file(s) but no usable picture ({first.path}: {first.message})"
    return BadInput(text.replace(".)", ")") + ".", hint)


def _short(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:120].rstrip(".")
