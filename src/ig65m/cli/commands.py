"""The commands of `ig65m`; heavy imports stand inside each."""

import typer

from ig65m.cli.bench import bench
from ig65m.cli.classify import classify
from ig65m.cli.convert import convert
from ig65m.cli.explain import app as explain
from ig65m.cli.extract import extract
from ig65m.cli.features import app as features
from ig65m.cli.models import models
from ig65m.cli.quantize import quantize

app = typer.Typer(
    help="Labels and features from video with the 3-D convolutional networks of VMZ, pre-trained on IG-65M.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command()(models)
app.command()(convert)
app.command()(classify)
app.command()(extract)
app.add_typer(features, name="features")
app.add_typer(explain, name="explain")
app.command()(quantize)
app.command()(bench)


def _version(wanted: bool) -> None:
    if wanted:
        from ig65m import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    debug: bool = typer.Option(False, "--debug", help="Show where in the program an error arose; may stand anywhere."),
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    pass
