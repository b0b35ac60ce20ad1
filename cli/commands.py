"""Commands and groups that are strict: an option given twice, or an unknown name, is an error that helps."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import click

__all__ = ["Command", "Group", "completer"]


class Command(click.Command):
    """A command whose options that take one value may be given once: a second value would silently win.

    Numbers are finite: no range of numbers refuses NaN, which is neither below nor above anything.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuse a repeated option, parse as usual, then refuse numbers that are not finite."""
        if not ctx.resilient_parsing:
            _, _, order = self.make_parser(ctx).parse_args(list(args))
            single = (each for each in order if isinstance(each, click.Option) and not (each.multiple or each.count))
            for option, count in Counter(single).items():
                if count > 1 and not option.is_flag:
                    names = "/".join(option.opts)
                    raise click.UsageError(f"{names} is given {count} times; it takes one value", ctx)
        rest = super().parse_args(ctx, args)
        for param in self.params:
            value = ctx.params.get(param.name or "")
            if isinstance(value, float) and not math.isfinite(value):
                raise click.BadParameter(f"{value} is not a finite number", ctx, param)
        return rest


class Group(click.Group):
    """A group of such commands that answers an unknown name with near misses."""

    command_class = Command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Look a command up."""
        if args and not args[0].startswith("-") and args[0] not in self.list_commands(ctx):
            from featstore.errors import did_you_mean

            known = did_you_mean(args[0], self.list_commands(ctx))
            raise click.UsageError(f"No such command {args[0]!r}. {known}", ctx)
        return super().resolve_command(ctx, args)


def completer(kind: str) -> Any:
    """Function that completes for the shell: names of a kind, and paths where those are taken.

    Kinds are models, weights, recipes, features, presets and metrics; files and folders complete paths alone.
    """

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        found = [CompletionItem(name) for name in _names(kind) if name.startswith(incomplete)]
        if kind in _PATHS:
            found.append(CompletionItem(incomplete, type=_PATHS[kind]))
        return found

    return complete


_PATHS = {"features": "file", "recipes": "dir", "files": "file", "folders": "dir"}
_PLACES = {
    "models": "featstore.models:MODELS",
    "weights": "featstore.models.musicnn_published:PUBLISHED",
    "metrics": "featstore.metrics:METRICS",
    "recipes": "featstore.workflows.recipes:recipe_names",
}


def _names(kind: str) -> list[str]:
    if kind in ("features", "presets"):
        from featstore.specs import KINDS, PRESETS

        return [*PRESETS, *(KINDS if kind == "presets" else [f"{name}(" for name in KINDS])]
    if kind not in _PLACES:
        return []
    from featstore.registry import load_attribute

    found = load_attribute(_PLACES[kind])
    return list(found() if callable(found) else found)
