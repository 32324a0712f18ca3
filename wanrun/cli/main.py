"""The ``wanrun`` command: a table of subcommands, each imported when it is used.

Help and errors cost no imports beyond click. An error of our tree is printed as ``Error: …`` and exits with
1; wrong usage exits with 2.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from wanrun.errors import WanrunError

#: Where each command is, and its line of help: subcommands are not imported to be listed.
COMMANDS = {
    "run": ("wanrun.cli.run:run", "Make a video from a prompt."),
    "batch": ("wanrun.cli.batch:batch", "Make many videos from a file of shots."),
    "plan": ("wanrun.cli.plan:plan", "Say what a run would take: memory and time."),
    "prompt": ("wanrun.cli.prompt:prompt", "Show how a prompt is read."),
    "decode": ("wanrun.cli.decode:decode", "Make a video of saved latents."),
    "serve": ("wanrun.cli.serve:serve", "Serve models and videos over HTTP."),
    "pull": ("wanrun.cli.transfer:pull", "Download a model."),
    "push": ("wanrun.cli.transfer:push", "Upload a model to a registry."),
    "create": ("wanrun.cli.manage:create", "Make a model from a Modelfile."),
    "show": ("wanrun.cli.show:show", "Show what a model is made of."),
    "list": ("wanrun.cli.manage:list_models", "List models. Also: ls."),
    "ps": ("wanrun.cli.loaded:ps", "List the models that the server has loaded."),
    "stop": ("wanrun.cli.loaded:stop", "Unload a model of the server."),
    "jobs": ("wanrun.cli.jobs:jobs", "List, show, cancel and delete the server's videos."),
    "attach": ("wanrun.cli.manage:attach", "Add a report or a recipe to a model."),
    "cp": ("wanrun.cli.manage:copy", "Copy a model to another name."),
    "rm": ("wanrun.cli.manage:remove", "Remove models."),
    "export": ("wanrun.cli.transfer:export_model", "Write a model into a file."),
    "import": ("wanrun.cli.transfer:import_model", "Bring in a model from a file."),
    "verify": ("wanrun.cli.upkeep:verify", "Read models again and say what is damaged."),
    "prune": ("wanrun.cli.upkeep:prune", "Delete files that no model needs."),
    "evaluate": ("wanrun.cli.evaluate:evaluate", "Measure what a model makes."),
    "convert": ("wanrun.cli.convert:convert", "Make a GGUF file of a published checkpoint."),
    "quantize": ("wanrun.cli.quantize:quantize", "Make a transformer's file smaller."),
    "calibrate": (
        "wanrun.cli.calibrate:calibrate",
        "Measure what matters in a model before it is quantised.",
    ),
    "calibrate-cache": (
        "wanrun.cli.calibrate_cache:calibrate_cache",
        "Measure what step caches must know of a model.",
    ),
    "mix": ("wanrun.cli.mix:mix", "Find the best types for a size."),
    "inspect": ("wanrun.cli.inspect:inspect", "Say what a GGUF or safetensors file is."),
    "samplers": ("wanrun.cli.sampling:samplers", "List samplers, their options and what each is good for."),
    "schedules": ("wanrun.cli.sampling:schedules", "List noise schedules and what each is good for."),
    "plugins": ("wanrun.cli.info:plugins", "List plugins and what is wrong with them."),
    "doctor": ("wanrun.cli.info:doctor", "Show settings and what this machine can do."),
}
ALIASES = {"ls": "list"}


class LazyGroup(click.Group):
    """A group that imports a subcommand when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        target, _ = COMMANDS.get(ALIASES.get(cmd_name, cmd_name), (None, None))
        if target is None:
            return None
        module, _, attribute = target.partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except WanrunError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="wanrun", prog_name="wanrun", message="%(prog)s version is %(version)s")
def main() -> None:
    """Local text-to-video: run a prompt on a Wan model, and share models as Modelfiles."""


if __name__ == "__main__":
    main()
