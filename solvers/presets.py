"""The named choices of options, the same in every host."""

PRESETS: dict[str, dict[str, object]] = {
    "auto": {"algorithm": "dpmsolver++", "order": 3, "solver_type": "dpmsolver", "start": "corrected", "final_rule": "smooth"},
    "dpmpp_2m": {"algorithm": "dpmsolver++", "order": 2, "solver_type": "dpmsolver", "start": "official", "final_rule": "smooth"},
    "dpmpp_3m": {"algorithm": "dpmsolver++", "order": 3, "solver_type": "dpmsolver", "start": "corrected", "final_rule": "smooth"},
}
