"""The command line: parse, call one function, print. Heavy imports stand inside the commands."""

import sys
import traceback

import typer

from ig65m.cli.classify import classify
from ig65m.cli.convert import convert
from ig65m.cli.extract import extract
from ig65m.cli.models import models
from ig65m.errors import IgError, ProofError

app = typer.Typer(
    help="Labels and features from video with the R(2+1)D networks of VMZ, pre-trained on IG-65M.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command()(models)
app.command()(convert)
app.command()(classify)
app.command()(extract)


def _version(wanted: bool) -> None:
    if wanted:
        from ig65m import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    debug: bool = typer.Option(False, "--debug", help="Show where in the program an error arose."),
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    pass


def main() -> None:
    """Run the command line; exit with 0 all done, 1 a fault of the program, 2 wrong use, 3 some inputs failed, 130 Ctrl-C."""
    debug = "--debug" in sys.argv[1:2]
    try:
        app()
    except (IgError, OSError) as error:
        if debug:
            traceback.print_exc()
        print(f"ig65m: {error}", file=sys.stderr)
        sys.exit(1 if isinstance(error, ProofError) else 2)
    except Exception as error:
        if debug:
            traceback.print_exc()
        reason = f"{type(error).__name__}: {error}"
        print(f"ig65m: a fault of the program, please report it ({reason}); `ig65m --debug ...` shows where", file=sys.stderr)
        sys.exit(1)
