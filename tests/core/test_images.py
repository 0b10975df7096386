"""Safe pictures: what comes in, what is refused and in which words."""

from __future__ import annotations

import base64
import io
import os
import struct
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lora_atelier.core import images
from lora_atelier.core.errors import BadInput
from lora_atelier.core.images import PictureError, data_uri, open_array, open_rgb, read_header, scan
from PIL import Image, ImageCms

LOSSLESS = {"png": "PNG", "bmp": "BMP", "tif": "TIFF", "tiff": "TIFF"}
LOSSY = {"jpg": "JPEG", "jpeg": "JPEG", "webp": "WEBP", "avif": "AVIF"}


def quarters(width: int = 64, height: int = 48) -> Image.Image:
    """Red, green, blue and white quarters: every turn and every swapped channel shows."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = (200, 30, 30)
    pixels[: height // 2, width // 2 :] = (30, 180, 40)
    pixels[height // 2 :, : width // 2] = (30, 50, 210)
    pixels[height // 2 :, width // 2 :] = (245, 245, 245)
    return Image.fromarray(pixels)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def close(got: np.ndarray, want: np.ndarray, most: float) -> bool:
    return got.shape == want.shape and float(np.abs(got.astype(int) - want.astype(int)).mean()) <= most


@pytest.mark.parametrize(("ending", "kind"), [*LOSSLESS.items(), *LOSSY.items(), ("gif", "GIF")])
def test_every_format_gives_the_same_picture(tmp_path: Path, ending: str, kind: str) -> None:
    picture = quarters()
    path = tmp_path / f"p.{ending}"
    path.write_bytes(encoded(picture, kind, **({"quality": 95} if ending in LOSSY else {})))
    got = open_array(path)
    assert got.dtype == np.uint8
    assert close(got, np.asarray(picture), 0 if ending in LOSSLESS else 4)
    header = read_header(path)
    assert (header.format, header.width, header.height) == (kind, 64, 48)


def test_upper_case_endings_are_fine(tmp_path: Path) -> None:
    (tmp_path / "A.JPG").write_bytes(encoded(quarters(), "JPEG"))
    assert [picture.path for picture in scan(tmp_path, "x").pictures] == ["A.JPG"]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("ending", "kind"), [("jpg", "JPEG"), ("png", "PNG"), ("webp", "WEBP"), ("tif", "TIFF")])
def test_exif_orientation_gives_the_upright_picture(tmp_path: Path, orientation: int, ending: str, kind: str) -> None:
    upright = quarters()
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Image.Transpose that a camera would have applied
    stored = upright.transpose(Image.Transpose(undo[orientation])) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"p.{ending}"
    path.write_bytes(encoded(stored, kind, exif=exif, **({"quality": 95} if kind in ("JPEG", "WEBP") else {})))
    assert close(open_array(path), np.asarray(upright), 4)
    header = read_header(path)
    assert (header.width, header.height) == upright.size


def test_transparency_lies_on_white(tmp_path: Path) -> None:
    layer = quarters().convert("RGBA")
    layer.putalpha(Image.fromarray(np.tile(np.r_[np.zeros(32), np.full(32, 255)].astype(np.uint8), (48, 1))))
    layer.save(tmp_path / "a.png")
    layer.save(tmp_path / "a.webp", lossless=True)
    for name in ("a.png", "a.webp"):
        got = open_array(tmp_path / name)
        assert (got[:, :31] == 255).all()
        assert (got[:, 33:] == np.asarray(quarters())[:, 33:]).all()


def test_palette_with_a_transparent_entry_and_grey_with_alpha(tmp_path: Path) -> None:
    flat = quarters().quantize(4)
    entry = flat.getpixel((2, 2))
    flat.save(tmp_path / "p.png", transparency=entry)
    got = open_array(tmp_path / "p.png")
    assert (got[2, 2] == 255).all()
    assert tuple(got[2, 60]) == (30, 180, 40)
    Image.new("LA", (8, 8), (0, 128)).save(tmp_path / "la.png")
    assert abs(int(open_array(tmp_path / "la.png")[4, 4, 0]) - 127) <= 1


def test_sixteen_bit_grey_keeps_its_tones(tmp_path: Path) -> None:
    ramp = np.tile(np.linspace(0, 65535, 256).astype(np.uint16), (4, 1))
    for name in ("deep.png", "deep.tif"):
        Image.fromarray(ramp).save(tmp_path / name)
        got = open_array(tmp_path / name)[0, :, 0].astype(int)
        assert np.abs(got - np.arange(256)).max() <= 1


def test_float_and_one_bit_pictures(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 0.5, np.float32)).save(tmp_path / "f.tif")
    assert abs(int(open_array(tmp_path / "f.tif")[0, 0, 0]) - 128) <= 1
    Image.new("1", (8, 8), 1).save(tmp_path / "bit.png")
    assert (open_array(tmp_path / "bit.png") == 255).all()


def test_cmyk_with_and_without_profile(tmp_path: Path) -> None:
    quarters().convert("CMYK").save(tmp_path / "c.jpg", quality=95)
    assert close(open_array(tmp_path / "c.jpg"), np.asarray(quarters()), 6)
    wrong = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()  # not a CMYK profile: must not matter
    quarters().convert("CMYK").save(tmp_path / "d.jpg", quality=95, icc_profile=wrong)
    assert close(open_array(tmp_path / "d.jpg"), np.asarray(quarters()), 6)


def test_animations_give_their_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (16, 16), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], lossless=True)
    frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:])
    for name in ("a.gif", "a.webp", "a.tif"):
        assert tuple(open_array(tmp_path / name)[8, 8]) == (255, 0, 0)


@pytest.mark.parametrize("share", [0.3, 0.7, 0.97])
@pytest.mark.parametrize(("ending", "kind"), [("jpg", "JPEG"), ("png", "PNG"), ("webp", "WEBP")])
def test_cut_off_files_are_refused_already_by_the_scan(tmp_path: Path, ending: str, kind: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (96, 96, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    (tmp_path / f"cut.{ending}").write_bytes(data[: int(len(data) * share)])
    quarters().save(tmp_path / "good.png")
    found = scan(tmp_path, "x")
    assert [picture.path for picture in found.pictures] == ["good.png"]
    assert [(item.path, item.rule) for item in found.skipped] == [(f"cut.{ending}", "truncated")]
    with pytest.raises(PictureError, match="ends before"):
        open_rgb(tmp_path / f"cut.{ending}")


def test_a_png_without_its_end_chunk_is_cut_off(tmp_path: Path) -> None:
    (tmp_path / "p.png").write_bytes(encoded(quarters(), "PNG")[:-12])
    with pytest.raises(PictureError) as caught:
        read_header(tmp_path / "p.png")
    assert caught.value.rule == "truncated"


def test_the_thumbnail_inside_a_cut_jpeg_does_not_count_as_its_end(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0110] = "camera"
    data = encoded(quarters(), "JPEG", exif=exif.tobytes() + encoded(quarters(16, 16), "JPEG"))
    (tmp_path / "p.jpg").write_bytes(data[:-2])
    with pytest.raises(PictureError, match="ends before"):
        read_header(tmp_path / "p.jpg")


def test_bytes_behind_the_end_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "p.jpg").write_bytes(encoded(quarters(), "JPEG") + b"\0" * 300)
    assert open_rgb(tmp_path / "p.jpg").size == (64, 48)


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    start = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + start + chunk(b"IDAT", zlib.compress(b"\0" * 50)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(8001, 8001), (60000, 60000), (2**31 - 1, 1)])
def test_too_many_pixels_are_refused_from_the_header(tmp_path: Path, size: tuple[int, int]) -> None:
    (tmp_path / "bomb.png").write_bytes(png_header(*size))
    start = time.perf_counter()
    with pytest.raises(PictureError, match="megapixels") as caught:
        read_header(tmp_path / "bomb.png")
    assert caught.value.rule == "too_many_pixels"
    assert time.perf_counter() - start < 0.5


def test_too_large_a_file_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "big.png").open("wb") as file:
        file.write(png_header(4, 4))
        file.truncate(images.MAX_BYTES + 1)
    with pytest.raises(PictureError, match="limit is 64") as caught:
        read_header(tmp_path / "big.png")
    assert caught.value.rule == "too_large"


def test_name_and_content_must_agree(tmp_path: Path) -> None:
    (tmp_path / "p.jpg").write_bytes(encoded(quarters(), "PNG"))
    with pytest.raises(PictureError, match=r"named \.jpg but holds PNG") as caught:
        open_rgb(tmp_path / "p.jpg")
    assert caught.value.rule == "wrong_ending"
    (tmp_path / "t.png").write_text("hello")
    with pytest.raises(PictureError, match="does not hold a picture"):
        open_rgb(tmp_path / "t.png")


def test_scan_names_every_unusable_file(tmp_path: Path) -> None:
    quarters().save(tmp_path / "good.png")
    (tmp_path / "good.txt").write_text("a caption")
    (tmp_path / "zero.jpg").touch()
    (tmp_path / "notes.md").write_text("notes")
    (tmp_path / "sub").mkdir()
    quarters().save(tmp_path / "sub" / "deep.png")
    found = scan(tmp_path, "set")
    assert [picture.path for picture in found.pictures] == ["good.png", "sub/deep.png"]
    assert {item.path: item.rule for item in found.skipped} == {"notes.md": "not_a_picture", "zero.jpg": "empty"}
    assert all(item.message.endswith(".") for item in found.skipped)
    assert found.pictures[0].sha256 == found.pictures[1].sha256


@pytest.mark.skipif(sys.platform == "win32", reason="links and pipes need POSIX")
def test_links_out_pipes_and_odd_names_are_skipped(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    root = tmp_path / "root"
    outside.mkdir()
    root.mkdir()
    quarters().save(outside / "secret.png")
    quarters().save(root / "good.png")
    (root / "link.png").symlink_to(outside / "secret.png")
    (root / "inner.png").symlink_to(root / "good.png")
    (root / "loop.png").symlink_to(root / "loop.png")
    (root / "folder").symlink_to(outside)
    os.mkfifo(root / "pipe.png")
    odd = os.fsencode(root) + b"/caf\xe9.png"
    Path(os.fsdecode(odd)).write_bytes(encoded(quarters(), "PNG"))
    found = scan(root, "x")
    assert [picture.path for picture in found.pictures] == ["good.png", "inner.png"]
    rules = {item.path: item.rule for item in found.skipped}
    assert rules == {
        "link.png": "link", "loop.png": "link", "folder": "link", "pipe.png": "special", "caf\\udce9.png": "name",
    }  # fmt: skip
    found.to_json()


def test_a_folder_without_pictures_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is empty"):
        scan(tmp_path, "x")
    for index in range(3):
        (tmp_path / f"{index}.txt").write_text("text")
    with pytest.raises(BadInput, match=r"holds 3 file\(s\) but no usable picture"):
        scan(tmp_path, "x")
    with pytest.raises(BadInput, match="is not a folder"):
        scan(tmp_path / "nowhere", "x")


def test_reduced_arrays_keep_the_aspect_and_never_grow(tmp_path: Path) -> None:
    quarters(640, 480).save(tmp_path / "p.jpg", quality=95)
    assert open_array(tmp_path / "p.jpg", 160).shape == (120, 160, 3)
    assert open_array(tmp_path / "p.jpg", 4000).shape == (480, 640, 3)
    assert close(open_array(tmp_path / "p.jpg", 160), np.asarray(quarters(160, 120)), 4)


def test_data_uris_hold_a_small_picture(tmp_path: Path) -> None:
    head, _, body = data_uri(quarters(640, 480), 100).partition(",")
    assert head in ("data:image/webp;base64", "data:image/jpeg;base64")
    with Image.open(io.BytesIO(base64.b64decode(body))) as image:
        assert image.size == (100, 75)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF"]),
    cuts=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=6)), max_size=4),
    end=st.floats(0.02, 1),
)
def test_damage_never_raises_anything_else(
    tmp_path: Path, kind: str, cuts: list[tuple[float, bytes]], end: float
) -> None:
    data = bytearray(encoded(quarters(32, 24), kind))
    for place, patch in cuts:
        at = int(place * (len(data) - 1))
        data[at : at + len(patch)] = patch
    path = tmp_path / f"p.{ {'JPEG': 'jpg', 'TIFF': 'tif'}.get(kind, kind.lower()) }"
    path.write_bytes(data[: max(1, int(len(data) * end))])
    for read in (read_header, open_rgb, open_array):
        try:
            read(path)
        except PictureError as error:
            assert error.rule
            assert error.message.endswith(".")
