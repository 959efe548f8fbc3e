"""Formats cards as the tables of docs/models.md."""

from collections.abc import Iterable
from itertools import groupby
from urllib.parse import urlsplit

from ig65m.models.card import Card
from ig65m.zoo.cost import cost
from ig65m.zoo.published import MODEL_ZOO_MD, MODELS_MD

_COLUMNS = {  # columns and their alignment
    "model": "---",
    "clip": "---",
    "step": "--:",
    "classes": "--:",
    "pre-training": "---",
    "fine-tuning": "---",
    "clip top-1": "--:",
    "top-1": "--:",
    "top-5": "--:",
    "params (M)": "--:",
    "GMACs": "--:",
    "VMZ: params (M)": "--:",
    "VMZ: GMACs": "--:",
    "files": "---",
}


def markdown(cards: Iterable[Card]) -> str:
    """Return a table for each group of cards of one origin, with links to their files."""
    parts = []
    for heading, those in groupby(cards, _heading):
        lines = [f"## {heading}", "", _line(_COLUMNS), _line(_COLUMNS.values()), *(_line(_cells(card)) for card in those)]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def clip(card: Card) -> str:
    """Format a clip as FRAMESxHEIGHTxWIDTH."""
    return "x".join(str(size) for size in (card.frames or "?", *card.crop))


def percent(share: float | None) -> str:
    """Format a percentage as VMZ does; empty if unknown."""
    return "" if share is None else f"{share:.1f}"


def source(card: Card) -> str:
    """Return where the weights come from."""
    if card.embedded:
        return "in the package"
    return urlsplit(card.url).netloc.removeprefix("www.") if card.url else "none published"


def _heading(card: Card) -> str:
    if card.audio_visual:
        return "Audio-visual networks: the visual branch"
    return {MODEL_ZOO_MD: "VMZ's model zoo", MODELS_MD: "VMZ's models of 2018"}.get(card.page or "", "In the package")


def _cells(card: Card) -> list[str]:
    price = cost(card)
    by_vmz = [f"{price.vmz_parameters / 1e6:.1f}", f"{price.vmz_multiply_adds / 1e9:.1f}"] if card.page else ["", ""]
    return [
        f"`{card.name}`",
        clip(card),
        str(card.frame_step),
        str(card.spec.classes or "?"),
        card.pretraining or "",
        card.finetuning or "",
        percent(card.clip_top1),
        percent(card.top1),
        percent(card.top5),
        f"{price.parameters / 1e6:.2f}",
        f"{price.multiply_adds / 1e9:.2f}",
        *by_vmz,
        _files(card),
    ]


def _files(card: Card) -> str:
    links = {".pth": card.url if card.url != card.caffe2 else None, "ONNX": card.onnx, ".pkl": card.caffe2}
    return " ".join(f"[{name}]({link})" for name, link in links.items() if link) or source(card)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
