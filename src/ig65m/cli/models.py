"""ig65m models"""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from ig65m.cli.options import OUTPUT, Json, option

if TYPE_CHECKING:
    from ig65m.models.card import Card


def models(
    pattern: Annotated[
        str,
        typer.Argument(
            metavar="PATTERN", help="Only models with this text in their names; * stands for anything.", show_default=False
        ),
    ] = "",
    as_json: Json = False,
    as_markdown: Annotated[
        bool, option(OUTPUT, "Print Markdown tables with links, as in docs/models.md.", "--markdown")
    ] = False,
) -> None:
    """List the models: clip, size, classes, accuracy, cost and origin. A narrow terminal shows fewer columns.

    With --json, the output is an array with all fields of each model's card.

    Example: ig65m models csn*kinetics
    """
    from ig65m.errors import UsageError
    from ig65m.zoo.cards import find_cards
    from ig65m.zoo.cost import cost
    from ig65m.zoo.tables import markdown

    if as_json and as_markdown:
        raise UsageError("--json and --markdown do not go together")
    cards = find_cards(pattern)
    if as_json:
        print(json.dumps([json.loads(card.to_json()) | asdict(cost(card)) for card in cards], indent=1))
    elif as_markdown:
        print(markdown(cards))
    else:
        _print(cards)


# Width of the terminal from which a column is shown.
_COLUMNS = {
    "model": 0,
    "clip": 0,
    "step": 100,
    "classes": 0,
    "top-1": 0,
    "top-5": 100,
    "GMACs": 0,
    "params": 100,
    "trained on": 157,
    "file": 157,
}
_WORDS = ("model", "clip", "trained on", "file")


def _print(cards: "list[Card]") -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from ig65m.zoo.cost import cost
    from ig65m.zoo.tables import clip, percent, source

    console = Console(width=None if Console().is_terminal else 160)
    shown = [name for name, least in _COLUMNS.items() if console.width >= least]
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for name in shown:
        table.add_column(name, justify="left" if name in _WORDS else "right", no_wrap=True)
    for card in cards:
        price = cost(card)
        values = {
            "model": card.name,
            "clip": clip(card),
            "step": str(card.frame_step),
            "classes": str(card.spec.classes or "?"),
            "top-1": percent(card.top1),
            "top-5": percent(card.top5),
            "GMACs": f"{price.multiply_adds / 1e9:.2f}",
            "params": f"{price.parameters / 1e6:.1f}M",
            "trained on": ", then ".join(filter(None, (card.pretraining, card.finetuning))),
            "file": source(card),
        }
        table.add_row(*(values[name] for name in shown))
    console.print(table)
