"""What the tab's lists offer; without what only a run needs."""

from .entries import ENTRIES

SHAPES = ("radial", "channel", "scalar", "element")
MODES = ("schedule", "schedule and gains", "schedule, gains and sampler")
SAMPLERS = tuple(entry.name for entry in ENTRIES if not entry.adaptive)
