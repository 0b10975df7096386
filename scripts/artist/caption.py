"""Captions as a person would write them, with parts left out at random."""

from __future__ import annotations

import numpy as np

from artist.scene import Character, Scene, framing_of

COLOR_WORDS: dict[str, tuple[str, ...]] = {
    "black": ("black", "black", "dark black"),
    "brown": ("brown", "brown", "brunette"),
    "blond": ("blond", "blonde", "golden"),
    "red": ("red", "red", "scarlet"),
    "white": ("white", "white", "silver"),
    "blue": ("blue", "blue", "azure"),
    "pink": ("pink", "pink", "rose"),
    "green": ("green", "green", "emerald"),
    "yellow": ("yellow", "yellow", "lemon"),
    "purple": ("purple", "purple", "violet"),
}
HAIR_WORDS: dict[str, tuple[str, ...]] = {
    "long": ("long {} hair", "{} long hair", "long {} hair"),
    "short": ("short {} hair", "{} short hair", "short {} hair"),
    "bun": ("{} hair in a bun", "a {} bun", "{} bun hair"),
    "ponytail": ("{} ponytail", "{} hair in a ponytail", "a {} ponytail"),
    "twin_tails": ("{} twin tails", "{} hair in twin tails", "{} pigtails"),
}
EXPRESSION_WORDS: dict[str, tuple[str, ...]] = {
    "smiling": ("smiling", "happy", "with a smile", "smile"),
    "sad": ("sad", "unhappy", "looking sad", "with a sad face"),
    "surprised": ("surprised", "astonished", "open mouth, surprised", "looking surprised"),
    "neutral": ("neutral", "calm", "serious", "neutral expression"),
}
VIEW_WORDS: dict[str, tuple[str, ...]] = {
    "front": ("front view", "seen from the front", "looking at the viewer"),
    "three_quarter": ("three-quarter view", "turned slightly", "three quarter view"),
    "profile_left": ("in profile, facing left", "profile view, facing left",
                     "side view, facing left"),
    "profile_right": ("in profile, facing right", "profile view, facing right",
                      "side view, facing right"),
    "back": ("from behind", "seen from behind", "back view", "from the back"),
}  # fmt: skip
PLACE_WORDS: dict[str, tuple[str, ...]] = {
    "room": ("in a room", "in the room", "indoors, in a room", "inside, room"),
    "meadow": ("in a meadow", "on a meadow", "in a green meadow with flowers", "outdoors, meadow"),
    "night": ("at night", "night sky", "under the stars", "under the moon at night"),
    "sea": ("by the sea", "at the sea", "at the beach", "on the beach by the sea"),
    "plain": ("plain background", "simple background", "on a plain background"),
}
FRAME_WORDS: dict[str, tuple[str, ...]] = {
    "close_up": ("close-up", "close up", "close-up of the face"),
    "portrait": ("portrait", "head and shoulders"),
    "half": ("half body", "upper body", "half-length"),
    "full": ("full body", "full figure", "whole body"),
    "tiny": ("far away", "tiny figure", "in the distance"),
}
STYLE_WORDS: dict[str, tuple[str, ...]] = {
    "flat": ("flat style", "flat drawing", "flat colours"),
    "pastel": ("pastel style", "pastel drawing", "soft pastel colours"),
    "cel": ("cel style", "cel shading", "cel drawing"),
    "film": ("film style",),
}
NOUNS = ("character", "girl", "person", "woman", "character", "young woman", "figure")
COUNTS = {2: "two", 3: "three", 4: "four", 5: "five"}
# Words that no caption uses but that people type; they get tokens of their own.
EXTRA_WORDS: tuple[str, ...] = (
    "film", "style", "anime", "drawing", "picture", "photo", "image", "a", "an", "the", "of",
    "boy", "man", "lady", "child", "solo", "1girl", "1boy", "light", "soft", "bright", "outdoors",
    "indoors", "standing", "high", "quality", "best", "cute", "beautiful", "detailed", "paper",
    "grain", "outline", "ink", "warm", "low", "blurry", "bad", "hair", "eyes", "face", "dress",
    "clothes", "shirt", "coat", "robe", "trigger", "atelier", "sks", "ohwx", "zwx", "vintage",
    "old", "movie", "frame", "scene", "cartoon", "illustration", "painting", "watercolor",
    "sketch", "lora", "character", "people", "and", "or", "not", "without", "no", "is", "are",
    "her", "his", "she", "he", "it", "wears", "has", "sky", "day", "sun", "forest", "city",
    "winter", "snow", "window", "floor", "grass", "ocean", "water", "sand", "dark", "mouth",
    "orange", "grey", "gray", "hat", "tree", "house", "several", "many", "multiple", "colors",
)  # fmt: skip


def _say(rng: np.random.Generator, options: tuple[str, ...], vary: bool) -> str:
    return options[int(rng.integers(len(options)))] if vary else options[0]


def _color(rng: np.random.Generator, name: str, vary: bool) -> str:
    """Mostly the plain word: it is what people type."""
    words = COLOR_WORDS[name]
    return words[int(rng.integers(len(words)))] if vary and rng.random() < 0.35 else words[0]


def _article(dress: str) -> str:
    """`a red dress`, but `red clothes`."""
    return dress if dress[:2] == "a " or not dress.endswith("dress") else "a " + dress


def _traits(character: Character, rng: np.random.Generator, vary: bool) -> tuple[str | None, str | None, str | None]:
    """Hair, dress and expression phrases; None where dropped or not to be seen."""

    def keep(share: float) -> bool:
        return not vary or bool(rng.random() < share)

    if character.silhouette:
        return None, None, None
    hair = dress = mood = None
    if keep(0.9):
        color = _color(rng, character.hair_color, vary)
        form = _say(rng, HAIR_WORDS[character.hair_style], vary)
        hair = form.format(color) if keep(0.88) else f"{color} hair"
    if keep(0.88):
        noun = _say(rng, ("{} dress", "{} dress", "a {} dress", "{} clothes"), vary)
        dress = noun.format(_color(rng, character.dress_color, vary))
    faced = character.view != "back" and character.detail and not character.mouth_covered
    if faced and keep(0.75):
        mood = _say(rng, EXPRESSION_WORDS[character.expression], vary)
    return hair, dress, mood


def _one(character: Character, rng: np.random.Generator, vary: bool) -> list[str]:
    """Phrases about one character; the first one holds the noun."""
    hair, dress, mood = _traits(character, rng, vary)
    noun = _say(rng, NOUNS, vary)
    if character.silhouette:
        return [f"silhouette of a {noun}"]
    roll = float(rng.random()) if vary else 0.0
    if hair and roll < 0.45:
        parts = [f"a {noun} with {hair}"]
        if dress:
            parts.append(dress)
    elif hair and dress and roll < 0.65:
        parts = [f"a {noun} with {hair} and {_article(dress)}"]
    elif hair and dress and roll < 0.8:
        parts = [f"a {noun} in {_article(dress)} with {hair}"]
    else:
        parts = [f"a {noun}" if roll < 0.9 else noun]
        parts += [p for p in (hair, dress) if p]
        if dress and len(parts) > 2 and rng.random() < 0.4:
            parts[1], parts[2] = parts[2], parts[1]
    if mood:
        if vary and rng.random() < 0.2 and parts[0].startswith("a ") and " " not in mood:
            parts[0] = ("an " if mood[0] in "aeiou" else "a ") + mood + parts[0][1:]
        else:
            parts.append(mood)
    return parts


def caption(scene: Scene, rng: np.random.Generator, *, vary: bool = True) -> str:
    """Write a caption; with `vary` off, a full one in a fixed form."""

    def keep(share: float) -> bool:
        return not vary or bool(rng.random() < share)

    first = scene.characters[0]
    if len(scene.characters) > 1:
        parts = [f"{COUNTS.get(len(scene.characters), 'several')} characters"]
        tail: list[str] = []
    else:
        parts, tail = _one(first, rng, vary), []
        if first.view != "front" or (vary and rng.random() < 0.2):
            tail.append(_say(rng, VIEW_WORDS[first.view], vary))
        if keep(0.3):
            options = FRAME_WORDS[framing_of(first)]
            tail.append(_say(rng, options[:2] if first.view == "back" else options, vary))
        if not first.detail:
            tail.append("no face")
    if keep(0.8):
        tail.append(_say(rng, PLACE_WORDS[scene.background], vary))
    if vary and rng.random() < 0.3:
        rng.shuffle(tail)
    if scene.style == "film" or keep(0.55):
        tail.append(_say(rng, STYLE_WORDS[scene.style], vary))
    glue = " " if vary and tail and rng.random() < 0.15 else ", "
    text = ", ".join(parts)
    return text + (glue if tail else "") + ", ".join(tail)


def vocabulary() -> list[str]:
    """Every word that captions can contain, and words that people may type, sorted."""
    words: set[str] = set(EXTRA_WORDS)
    tables = (COLOR_WORDS, HAIR_WORDS, EXPRESSION_WORDS, VIEW_WORDS, PLACE_WORDS, FRAME_WORDS,
              STYLE_WORDS)  # fmt: skip
    phrases = [p for table in tables for options in table.values() for p in options]
    phrases += [*NOUNS, *COUNTS.values(), "silhouette of a characters several clothes no face",
                "with and in an dress"]  # fmt: skip
    for phrase in phrases:
        words.update(phrase.replace("{}", " ").replace(",", " ").replace("-", " ").split())
    return sorted(words)
