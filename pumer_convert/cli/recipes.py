"""pumer-convert recipes."""

import click

from pumer_convert.cli.output import emit
from pumer_convert.recipe.schema import load_recipe
from pumer_convert.recipe.shipped import about, shipped


@click.command("recipes")
@click.option("--json", "as_json", is_flag=True, help="Print the recipes as JSON.")
def command(as_json: bool) -> None:
    """List the recipes that come with pumer-convert: what each is for, its tokens and MACs, and what was measured."""
    report = {
        name: {"about": about(file), "path": str(file), **load_recipe(file).to_json()}
        for name, file in shipped().items()
    }
    emit(
        report,
        as_json,
        lambda: "\n\n".join(
            f"{name}\n" + "\n".join(f"    {line}" for line in recipe["about"]) for name, recipe in report.items()
        ),
    )
