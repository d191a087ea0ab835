"""Schedule details in the accordion: what a run with the values of the page would do, on the noise levels of the host."""

import html
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .entries import BY_NAME as ENTRY
from .entries import Entry
from .options import ATTRIBUTE, NO_FILE, BadOption, given, labelled, options_of
from .schedules import SCHEDULES

# what is read of the page: {elem_id: its name here}; "…" stands for the host's tab
PARTS = {
    "…_sampling": "sampler", "…_scheduler": "scheduler", "…_steps": "steps", "…_denoising_strength": "strength",
    "txt2img_hr-checkbox": "hires", "hr_sampler": "hr_sampler", "hr_scheduler": "hr_scheduler", "txt2img_hires_steps": "hr_steps",
}  # fmt: skip
NOTHING = "No sampler of this extension is chosen."
CLASS = "dpm_solver_ext_details"
STYLE = (
    f".{CLASS} {{ max-height: 26em; overflow: auto }} .{CLASS} table {{ width: 100% }} "
    f".{CLASS} th, .{CLASS} td {{ text-align: right !important; padding: 0.1em 0.6em !important }}"
)
HEAD = ("model call", "noise level (sigma)", "half-logSNR (λ)", "step", "order")


def part_of(elem_id: Any, tab: str) -> str | None:
    """What the component of this elem_id is in `PARTS`, for the host's tab "txt2img" or "img2img"."""
    found = PARTS.get(elem_id) if isinstance(elem_id, str) else None
    if found is None and isinstance(elem_id, str) and elem_id.startswith(f"{tab}_"):
        found = PARTS.get("…" + elem_id[len(tab) :])
    return found


@dataclass(frozen=True)
class Pass:
    """One pass of a picture: `strength` is None where it begins with pure noise; `second` is that of a hires fix."""

    entry: Entry
    scheduler: str
    steps: int
    strength: float | None
    second: bool = False


def told(img2img: bool, page: Mapping[str, Any], arguments: Sequence[Any]) -> str:
    """HTML: each pass with a sampler of ours, by the values of the `page` (`PARTS`) and of the options; an error is its sentence."""
    from . import buttons  # what only a press needs

    try:
        passes = _passes(img2img, page)
        many = len(passes) > 1
        return "".join(_told(one, arguments, many) for one in passes) or buttons.page(NOTHING)
    except Exception as error:
        return buttons.page(buttons.sentence(error))


def _passes(img2img: bool, page: Mapping[str, Any]) -> list[Pass]:
    from .measure import number, whole

    sampler, scheduler = page["sampler"], page.get("scheduler") or "Automatic"
    steps, strength = whole("Sampling steps", page["steps"], 1, 1000), number("Denoising strength", page.get("strength", 1.0), 0, 1)
    passes = [(sampler, scheduler, steps, strength if img2img else None, False)]
    if page.get("hires") and not img2img:
        other, second = page.get("hr_sampler"), page.get("hr_scheduler")
        passes.append(
            (
                sampler if other in (None, "Use same sampler") else other,
                scheduler if second in (None, "Use same scheduler") else second,
                whole("Hires steps", page.get("hr_steps", 0), 0, 1000) or steps, strength, True,
            )
        )  # fmt: skip
    return [Pass(ENTRY[name], *rest) for name, *rest in passes if name in ENTRY]


def _told(one: Pass, arguments: Sequence[Any], many: bool) -> str:
    from ..solvers.outline import outline
    from ..solvers.presets import plan
    from .adapter import plan_options
    from .model import path_of

    p = types.SimpleNamespace(
        steps=one.steps, scheduler=one.scheduler, hr_scheduler=one.scheduler, is_hr_pass=one.second, denoising_strength=one.strength,
        sampler_noise_scheduler_override=None, extra_generation_params={}, **{ATTRIBUTE: given(arguments)},
    )  # fmt: skip
    values = options_of(p, one.entry)
    levels, wrap, notes = _levels(one, p, values)
    p_title = f"{one.entry.name}, {_schedule(one, values)}, {one.steps} steps" + (
        "" if one.strength is None else f", denoising strength {one.strength:g}"
    )
    title = ("Second pass: " if one.second else "First pass: ") * many + p_title
    if len(levels) < 2:
        return _text(title, ["No step is made."])
    path = path_of(wrap)
    try:
        path.validate(levels)
        options = plan_options(one.entry, values)
        tape = None if one.entry.adaptive else plan(path, levels, **options)
    except ValueError as error:
        raise error if isinstance(error, BadOption) else BadOption(labelled(str(error))) from error
    ends = f"from sigma {_level(path, levels[0])} to {_level(path, levels[-1])}"
    if tape is None:
        return _text(title, [f"As many steps as the tolerances ask for, {ends}; the steps slider only counts progress.", *notes])
    found = outline(tape)
    said = f"{found['evaluations']} model calls, {ends}; solver {tape.solver}, at most {found['registers']} latents in memory at once."
    factors, note = _gains(one.entry, values, options, levels, tape.evaluations)
    if factors:
        said += f" Gains of the model calls: {', '.join(f'{factor:.3f}' for factor in factors)}."
    return _text(title, [said, *notes, *filter(None, [note]), *tape.notes]) + _table(found["calls"])


def _levels(one: Pass, p: Any, values: Mapping[str, Any]) -> tuple[list[float], Any, list[str]]:
    """(the falling sigmas of the pass, the host's denoiser or a stand-in, sentences): as the host and `samplers.ExtSampler` make them."""
    from modules import sd_samplers, sd_samplers_common, shared  # the host's

    from .levels import loaded_wrap, waiting

    wrap, note = loaded_wrap()
    notes, steps, first = [said for said in (note or waiting(),) if said], one.steps, 0
    p.comment = notes.append
    if one.strength is not None:
        steps, last = sd_samplers_common.setup_img2img_steps(p, one.steps if one.second else None)
        first = steps - last - 1
    if note:
        return _without_model(one, values, wrap, steps, notes)[first:], wrap, notes
    sampler = sd_samplers.create_sampler(one.entry.name, shared.sd_model)
    return sampler.get_sigmas(p, steps).tolist()[first:], sampler.model_wrap, notes


def _without_model(one: Pass, values: Mapping[str, Any], wrap: Any, steps: int, notes: list[str]) -> list[float]:
    from ..solvers.hosting import ending_at
    from . import tuned
    from .levels import levels_of_types

    def make(n: int) -> list[float]:
        if (name := values.get("tuned", NO_FILE)) != NO_FILE:
            sigmas, note = tuned.levels(name, n, wrap)
            notes.extend([note] if note and note not in notes else [])
            return sigmas
        label = _automatic(one.entry) if one.scheduler == "Automatic" else one.scheduler
        return levels_of_types([label], n)[0][label]

    if steps < 1:
        return [0.0]
    return ending_at(make, steps, float(wrap.sigmas[0])) if values["final_sigma"] == "sigma_min" else make(steps)


def _gains(entry: Entry, values: Mapping[str, Any], options: Mapping[str, Any], levels: Sequence[float], calls: int) -> tuple[Any, str]:
    if (name := values.get("tuned", NO_FILE)) == NO_FILE:
        return (), ""
    from .tuned import gains

    whole = {**options, "thresholding": values["thresholding"]}
    return gains(name, whole, values.get("statistics", NO_FILE), levels, calls, False)


def _automatic(entry: Entry) -> str:
    """The label of the schedule type that "Automatic" is."""
    return SCHEDULES[entry.scheduler][0] if entry.scheduler in SCHEDULES else entry.scheduler.capitalize()


def _schedule(one: Pass, values: Mapping[str, Any]) -> str:
    if values.get("tuned", NO_FILE) != NO_FILE:
        return values["tuned"]
    return f"Automatic ({_automatic(one.entry)})" if one.scheduler == "Automatic" else one.scheduler


def _level(path: Any, sigma: float) -> str:
    lam = path.half_logsnr(sigma)
    return f"{sigma:.4g} (λ {lam:.3f})" if abs(lam) < 1e300 else f"{sigma:.4g}"


def _text(title: str, lines: Sequence[str]) -> str:
    return f"<p><b>{html.escape(title)}</b></p>" + "".join(f"<p>{html.escape(line)}</p>" for line in lines)


def _table(calls: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for call in calls:
        order = f"{call['order']:g}" if call["predicted"] is None else f"{call['predicted']:g}, corrected {call['order']:g}"
        lam = "" if call["lam"] is None else f"{call['lam']:.3f}"
        rows.append((f"{call['call'] + 1}", f"{call['sigma']:.5g}", lam, f"{call['step'] + 1}, to {call['to']:.4g}", order))
    head = "".join(f"<th>{word}</th>" for word in HEAD)
    body = "".join("<tr>" + "".join(f"<td>{word}</td>" for word in row) + "</tr>" for row in rows)
    return f'<div class="{CLASS}"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
