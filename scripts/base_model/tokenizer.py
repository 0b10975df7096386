"""A small CLIP vocabulary: every word of the captions is one token, bytes are the fallback.

The files have CLIP's format (`vocab.json`, `merges.txt`), so any reader of Stable Diffusion
tokenizers can use them.
"""

from __future__ import annotations

import json
import sys
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from artist.caption import vocabulary

START, END = "<|startoftext|>", "<|endoftext|>"
_END_OF_WORD = "</w>"


def byte_symbols() -> list[str]:
    """The 256 printable stand-ins for bytes that CLIP and GPT-2 use, in their order."""
    plain = [*range(ord("!"), ord("~") + 1), *range(161, 173), *range(174, 256)]
    symbols = [chr(b) for b in plain]
    return symbols + [chr(256 + n) for n in range(256 - len(plain))]


def split_word(word: str, ranks: dict[tuple[str, str], int]) -> list[str]:
    """Byte-pair encoding of one word with the merges known so far."""
    parts = [*word[:-1], word[-1] + _END_OF_WORD]
    while len(parts) > 1:
        pairs = [(ranks.get(pair, len(ranks)), n) for n, pair in enumerate(pairwise(parts))]
        rank, n = min(pairs)
        if rank == len(ranks):
            break
        parts[n : n + 2] = [parts[n] + parts[n + 1]]
    return parts


def build_merges(words: list[str]) -> list[tuple[str, str]]:
    """Merges that join each word to one token.

    Later merges rank lower, so they can never undo a word that is joined already.
    """
    ranks: dict[tuple[str, str], int] = {}
    for word in words:
        parts = split_word(word, ranks)
        while len(parts) > 1:
            ranks[parts[0], parts[1]] = len(ranks)
            parts = split_word(word, ranks)
    return list(ranks)


def write_tokenizer(folder: Path, length: int = 77) -> int:
    """Write all files of the tokenizer; returns the size of the vocabulary."""
    words = [w for w in vocabulary() if w.isalnum()]
    words = sorted({part for w in words for part in _split_digits(w)})
    merges = build_merges(words)
    tokens = byte_symbols()
    tokens += [symbol + _END_OF_WORD for symbol in byte_symbols()]
    tokens += [a + b for a, b in merges]
    tokens = [*dict.fromkeys(tokens), START, END]
    folder.mkdir(parents=True, exist_ok=True)
    vocab = {token: index for index, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(f"{a} {b}" for a, b in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = {
        "tokenizer_class": "CLIPTokenizer", "model_max_length": length, "do_lower_case": True,
        "bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END,
        "errors": "replace", "add_prefix_space": False,
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    special = {key: config[key] for key in ("bos_token", "eos_token", "unk_token", "pad_token")}
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2), encoding="utf-8")
    return len(vocab)


def _split_digits(word: str) -> list[str]:
    """CLIP splits digits from letters before merging: `1girl` becomes `1` and `girl`."""
    letters = "".join(c for c in word if not c.isdigit())
    return [p for p in (*(c for c in word if c.isdigit()), letters) if p]
