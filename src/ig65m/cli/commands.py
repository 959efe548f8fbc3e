"""The commands of `ig65m`. Each imports what it needs when it runs, so that `--help` is fast."""

import typer

from ig65m.cli.bench import bench
from ig65m.cli.classify import classify
from ig65m.cli.convert import convert
from ig65m.cli.evaluate import evaluate
from ig65m.cli.explain import app as explain
from ig65m.cli.extract import extract
from ig65m.cli.features import app as features
from ig65m.cli.index import app as index
from ig65m.cli.learn import learn
from ig65m.cli.models import models
from ig65m.cli.motion import motion
from ig65m.cli.quantize import quantize
from ig65m.cli.search import search
from ig65m.cli.serve import serve
from ig65m.cli.shots import shots

app = typer.Typer(
    help="Turn video into labels and features with the 3-D convolutional networks of VMZ, pre-trained on IG-65M.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
app.command()(models)
app.command()(convert)
app.command()(classify)
app.command()(extract)
app.command()(shots)
app.command()(motion)
app.command()(evaluate)
app.add_typer(features, name="features")
app.add_typer(index, name="index")
app.command()(search)
app.add_typer(explain, name="explain")
app.command()(learn)
app.command()(quantize)
app.command()(bench)
app.command()(serve)


def _version(wanted: bool) -> None:
    if wanted:
        from ig65m import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    debug: bool = typer.Option(
        False, "--debug", help="Print tracebacks, and how videos are read; allowed anywhere on the command line."
    ),
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version and exit."),
) -> None:
    pass
