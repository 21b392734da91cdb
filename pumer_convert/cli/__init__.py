"""The command line: one small file per verb, loaded when the verb is used."""

import importlib
import io
import logging
import sys
import traceback

import click

from pumer_convert import __version__
from pumer_convert.errors import PumerError, missing
from pumer_convert.system.signals import Terminated, stoppable

VERBS = {
    "recipes": "List the recipes that come with it: tokens, MACs, and what was measured.",
    "inspect": "Show what a checkpoint is, its sites, and tokens and MACs of every layer.",
    "apply": "Insert a recipe's reducers into a checkpoint and write the reduced folder.",
    "distill": "Finetune a reduced checkpoint, taught by its dense original.",
    "evaluate": "Measure a checkpoint, and its dense original on the same examples.",
    "export": "Export a checkpoint to ONNX and to a TensorRT engine.",
    "quantize": "Give an exported ONNX model 8-bit matrix products, by nvidia-modelopt.",
    "verify": "Compare an exported ONNX model with the checkpoint once more.",
    "bench": "Time a reduced checkpoint against its dense original.",
    "run": "Answer a question about a picture with a checkpoint, an ONNX model or an engine.",
    "show": "Draw what is left of a picture in the last layer.",
    "demo": "Run the whole path on a tiny embedded checkpoint.",
}


class Verbs(click.Group):
    """Loads a verb's module when it is called; --help needs none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"pumer_convert.cli.{cmd_name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
@click.option("-v", "--verbose", is_flag=True, help="Show the log, and the traceback of a bug.")
@click.pass_context
def cli(ctx: click.Context, verbose: bool) -> None:
    """Insert PuMer token reducers into vision-language checkpoints and export them to ONNX and TensorRT.

    Exit codes: 0 done, 1 a bug of pumer-convert, 2 usage, recipe or input, 3 a verification failed, 4 a missing
    dependency or device, 130 and 143 stopped by Ctrl-C and SIGTERM.
    """
    ctx.obj = verbose
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr)
    if verbose:
        logging.getLogger("pumer_convert").setLevel(logging.INFO)


def main() -> None:
    """Entry point: every error ends in one sentence and the exit code of its kind.

    Told to end by SIGTERM or SIGHUP it does what it does on Ctrl-C, and ends with 128 + the signal's number.
    """
    verbose = "-v" in sys.argv or "--verbose" in sys.argv
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # for names that the terminal's encoding has not
    try:
        with stoppable():
            cli.main(standalone_mode=False)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except PumerError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort) as stop:
        click.echo("stopped; nothing was left half-written.", err=True)
        cause = stop.__cause__ if isinstance(stop, click.Abort) else stop  # click makes one of the other
        sys.exit(cause.exit_code if isinstance(cause, Terminated) else 130)
    except OSError as error:
        click.echo(f"error: {error.filename or 'input or output'}: {error.strerror or error}", err=True)
        sys.exit(2)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and (why := missing(error)) is not None:
            click.echo(f"error: {why}", err=True)
            sys.exit(why.exit_code)
        if verbose:
            traceback.print_exc()
        click.echo(f"bug in pumer-convert: {type(error).__name__}: {error} (run with -v for the traceback)", err=True)
        sys.exit(1)
