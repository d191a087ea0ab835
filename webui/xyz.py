"""Axes of the X/Y/Z plot, one for each option."""

import os
from typing import Any

from .files import names
from .options import AXES, FILES, OPTIONS, BadOption, Option

PREFIX = "[DPM-Solver] "


def register() -> None:
    """Add the axes that are not there yet. The plot is a script; its module is found by its file."""
    from modules import scripts  # the host's

    module = next((data.module for data in scripts.scripts_data if os.path.basename(data.path) == "xyz_grid.py"), None)
    if module is None:
        return
    there = {axis.label for axis in module.axis_options}
    for option in OPTIONS:
        if PREFIX + option.label not in there:
            module.axis_options.append(_axis(module.AxisOption, option))


def _axis(axis_class: Any, option: Option) -> Any:
    is_text = isinstance(option.default, str)

    def apply(p, value, _values):
        setattr(p, AXES, {**getattr(p, AXES, {}), option.name: value})  # a new one: the plot's cells are shallow copies of one p

    def confirm(_p, values):
        for value in values:
            option.check(value)
            if option.name in FILES and value not in names(option.name):
                raise BadOption(f"{option.said} is {value!r}; choose from {', '.join(names(option.name))}.")

    choices = (lambda: names(option.name) if option.name in FILES else list(option.choices)) if is_text else None
    return axis_class(PREFIX + option.label, str if is_text else float, apply, confirm=confirm, choices=choices)
