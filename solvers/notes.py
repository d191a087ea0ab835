"""Options of `presets.plan` that cannot act: one sentence each, the same in every host.

A value is named where the run is the one without it (tests/unit/test_notes.py holds both directions), and a default never is. Nor is
"official" where no other choice exists, say of a first-order start at order 1: whoever asks for parity has it.
"""

from collections.abc import Mapping

DEFAULTS: dict[str, object] = {
    "algorithm": "dpmsolver++", "order": 2, "method": "multistep", "solver_type": "dpmsolver", "start": "corrected",
    "final_rule": "smooth", "corrector": "none", "eta": 0.0, "s_noise": 1.0, "noise_rule": "sde", "r1": None, "r2": None,
    "slopes": "planned",
}  # fmt: skip
SINGLE = ("singlestep", "singlestep_fixed", "adaptive")


def idle(options: Mapping[str, object]) -> dict[str, str]:
    """{name: sentence} of the `options` of `plan`, or of them with method "adaptive", that are not at their default and cannot act.

    A sentence names the option, its value and the mend. What `plan` refuses is an error there and not looked for here.
    """
    o = {**DEFAULTS, **options}
    order, exact = o["order"], o["algorithm"] == "dpmsolver-v"
    found: dict[str, str] = {}

    def note(name: str, when: str, mend: str | None = None) -> None:
        if o[name] != DEFAULTS[name]:
            value, plain = (f"{v:g}" if isinstance(v, float) else v for v in (o[name], DEFAULTS[name]))
            found[name] = f"{name} is {value}, which {when}; set {mend or f'{name} to {plain}'}."

    if o["method"] in SINGLE:
        for name in ("start", "final_rule"):
            note(name, f"acts with method multistep only, not with {o['method']}")
    if not o["eta"]:
        note("s_noise", "acts with eta above 0 only")
        note("noise_rule", "acts with eta above 0 only")
    if o["method"] == "singlestep_fixed":
        if order == 1:
            note("r1", "acts at order 2 and 3 only", "order to 2, or r1 to its default")
        if order in (1, 2):
            note("r2", "acts at order 3 only", "order to 3, or r2 to its default")
    # a third-order step of one whole: which of its three evaluations it ends with
    three = order == 3 and o["method"] in (("singlestep_fixed", "adaptive") if o["solver_type"] == "taylor" else SINGLE)
    if o["solver_type"] in ("taylor", "bh1", "pseudo") and order == 1 and o["corrector"] in ("none", "v3", "v3_pseudo"):
        note("solver_type", "acts from order 2 on", "order to 2, or solver_type to dpmsolver")
    elif exact and not three:
        note("solver_type", "algorithm dpmsolver-v, always exact, knows at most in the first steps from pure noise")
    if exact and o["corrector"] in ("official", "v3_pseudo"):
        note("corrector", "algorithm dpmsolver-v takes for unipc", "corrector to unipc")
    if order != 2:
        note("slopes", "acts at order 2 only", "order to 2, or slopes to planned")
    if o["corrector"] == "v3" and order == 1:
        note("corrector", "acts from order 2 on", "order to 2, or corrector to none")
    return found
