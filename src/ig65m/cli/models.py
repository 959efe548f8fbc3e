"""ig65m models"""

import json
from typing import Annotated

import typer


def models(as_json: Annotated[bool, typer.Option("--json", help="Everything known, as JSON on stdout.")] = False) -> None:
    """The models that there are: clip, size, classes, accuracy, cost, where they come from.

    Example: ig65m models --json
    """
    from ig65m.zoo.cards import CARDS
    from ig65m.zoo.cost import cost

    rows = [(card, cost(card)) for card in CARDS.values()]
    if as_json:
        records = [
            json.loads(card.to_json()) | {"parameters": price.parameters, "multiply_adds": price.multiply_adds}
            for card, price in rows
        ]
        print(json.dumps(records, indent=1))
        return

    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("model", no_wrap=True)
    table.add_column("clip")
    for name in ("classes", "top-1", "top-5", "GMACs", "params (M)"):
        table.add_column(name, justify="right")
    table.add_column("trained on")
    table.add_column("from")
    for card, price in rows:
        height, width = card.preprocessing.crop
        step = f", step {card.frame_step}" if card.frame_step > 1 else ""
        table.add_row(
            card.name,
            f"{card.frames}x{height}x{width}{step}",
            str(card.spec.classes),
            f"{card.top1:.1f}" if card.top1 else "",
            f"{card.top5:.1f}" if card.top5 else "",
            f"{price.multiply_adds / 1e9:.2f}",
            f"{price.parameters / 1e6:.2f}",
            ", then ".join(filter(None, (card.pretraining, card.finetuning))),
            card.origin or "",
        )
    Console(width=None if Console().is_terminal else 160).print(table)
