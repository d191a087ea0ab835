"""Widgets that cannot act together: an error or one warning that names the widget, at the node, before any model is asked."""

import logging
import re
import sys

import pytest

PLAIN, ADVANCED = "DPMSolverSamplerExt", "DPMSolverSamplerAdvancedExt"
FREE = {"corrector": "none", "algorithm": "dpmsolver++"}  # from the defaults, which are auto's

ERRORS = {  # what the sentence must contain: the widgets
    "eta is": {"eta": 1.0, "corrector": "none"},  # with dpmsolver-v, the default
    "eta is 1.5": FREE | {"eta": 1.5, "method": "singlestep", "noise_rule": "ancestral"},
    "eta is 0.5": FREE | {"eta": 0.5, "method": "adaptive"},
    "eta is -1": FREE | {"eta": -1.0},
    "s_noise is": FREE | {"eta": 1.0, "s_noise": -1.0},
    # all at once: each alone would be another run and another error
    "eta is 1, but algorithm dpmsolver-v and corrector unipc know no fresh noise; set algorithm to dpmsolver++ and corrector to none, or "
    "eta to 0.": {"eta": 1.0},
    "set algorithm to dpmsolver++, corrector to none, slopes to auto and start to corrected, or eta": {
        "eta": 1.0,
        "slopes": "measured",
        "start": "extra",
    },
    "algorithm dpmsolver-v3 knows no fresh noise; set algorithm to dpmsolver++, or eta to 0.": {
        "eta": 1.0,
        "algorithm": "dpmsolver-v3",
        "corrector": "none",
    },
    "corrector is official with eta": {"eta": 1.0, "algorithm": "dpmsolver++", "corrector": "official"},
    "corrector is official, which acts with method multistep": {"method": "singlestep", "corrector": "official"},
    "noise_rule is renoise": FREE | {"noise_rule": "renoise", "eta": 1.0},
    "r1 is 0.4, which acts with method singlestep_fixed only; set it to 0,": FREE | {"r1": 0.4},
    "r1 is 0.8": FREE | {"r1": 0.8, "method": "singlestep_fixed", "order": 3},
    "r2 is 0.5": FREE | {"r2": 0.5, "method": "singlestep"},
    "r2 is 1.5": FREE | {"r2": 1.5, "method": "singlestep_fixed", "order": 3},
    "order is 4": FREE | {"order": 4, "method": "singlestep"},
    "order is 1": FREE | {"order": 1, "method": "adaptive"},
    "order is 3 with eta": FREE | {"order": 3, "method": "singlestep_fixed", "eta": 1.0},
    "solver_type is bh1": FREE | {"solver_type": "bh1", "method": "singlestep"},
    "threshold_ratio is": {"thresholding": "dynamic", "threshold_ratio": 1.5},
    "threshold_max is": {"thresholding": "dynamic", "threshold_max": 0.0},
    "rtol is": FREE | {"method": "adaptive", "rtol": -1.0},
    "atol is": FREE | {"method": "adaptive", "atol": 0.0},
    "safety is": FREE | {"method": "adaptive", "safety": 2.0},
    "max_evaluations is": FREE | {"method": "adaptive", "max_evaluations": 1},
}


@pytest.mark.parametrize("start", ERRORS)
def test_error(build_node, start):
    """One sentence that begins with the widget, raised by the node itself."""
    with pytest.raises(ValueError) as error:
        build_node(ADVANCED, **ERRORS[start])
    text = str(error.value)
    assert start in text and "\n" not in text and len(text) < 300 and text.endswith(".") and ". " not in text.removesuffix(".")


def test_one_correction_is_enough(build_node, pack, caplog):
    """Who sets eta on the node as it is dropped and does what the error says has a sampler that nothing is said of."""
    sys.modules[f"{pack.module.__name__}.solvers.hosting"]._told.clear()
    wish = {"eta": 1.0, "slopes": "measured", "start": "extra"}
    with pytest.raises(ValueError) as error:
        build_node(ADVANCED, **wish)
    mend = re.findall(r"(\w+) to ([\w+]+)", str(error.value).partition("; set ")[2].partition(", or ")[0])
    with caplog.at_level(logging.WARNING):
        assert build_node(ADVANCED, **wish | dict(mend)).extra_options["eta"] == 1
    assert len(mend) == 4 and not [r for r in caplog.records if "DPM-Solver" in r.getMessage()]


WARNINGS = {
    "start is official": FREE | {"start": "official", "method": "singlestep"},
    "final_rule is none": FREE | {"final_rule": "none", "method": "adaptive", "order": 3},
    "rtol is 0.01": {"rtol": 0.01},
    "max_evaluations is 50": {"max_evaluations": 50},
    "s_noise is 1.1": {"s_noise": 1.1},
    "noise_rule is renoise": FREE | {"noise_rule": "renoise", "method": "singlestep"},
    "r2 is 0.5": FREE | {"r2": 0.5, "method": "singlestep_fixed"},
    "corrector is unipc, which acts with method multistep and eta 0 only": {"eta": 1.0, "algorithm": "dpmsolver++"},
    "corrector is unipc, which acts with": {"method": "singlestep"},
    "corrector is unipc, which": {"method": "adaptive"},
    "slopes is measured, which does not act with eta 1;": {
        "slopes": "measured",
        "corrector": "none",
        "eta": 1.0,
        "algorithm": "dpmsolver++",
    },
    "slopes is measured, which does not act with method singlestep;": {"slopes": "measured", "corrector": "none", "method": "singlestep"},
    "slopes is measured, which does not act with algorithm dpmsolver-v3;": {"slopes": "measured", "algorithm": "dpmsolver-v3"},
    "slopes is measured, which acts at order 2 only;": {"slopes": "measured", "order": 3},
    "corrector is official, which algorithm dpmsolver-v": {"corrector": "official"},
    "threshold_ratio is 0.9": {"threshold_ratio": 0.9},
    "solver_type is taylor": {"solver_type": "taylor"},
}


@pytest.mark.parametrize("start", WARNINGS)
def test_warning(build_node, pack, caplog, start):
    """A widget that was moved and cannot act is said, once, and the rest works."""
    sys.modules[f"{pack.module.__name__}.solvers.hosting"]._told.clear()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert build_node(ADVANCED, **WARNINGS[start])
    (message,) = [r.getMessage() for r in caplog.records if "DPM-Solver" in r.getMessage()]
    assert start in message and "\n" not in message


@pytest.mark.parametrize("wish", [{"method": "singlestep"}, {"method": "singlestep_fixed", "r2": 0.5}, {"solver_type": "taylor"}])
def test_the_node_and_the_run_say_the_same(analytic, build_node, pack, caplog, wish):
    """The library's notes on a run are the node's sentences, and said once: by the node."""
    told = sys.modules[f"{pack.module.__name__}.solvers.hosting"]._told
    told.clear()
    how = build_node(ADVANCED, **wish)
    before = set(told)
    assert before
    patcher = analytic.build("eps")
    analytic.sample(patcher, how, analytic.schedule(patcher, "karras", 4), analytic.noise_for(analytic.latent_shape(patcher)))
    assert told == before


def test_defaults_are_silent(build_node, pack, caplog):
    """Nodes as dropped, and every preset, warn of nothing."""
    sys.modules[f"{pack.module.__name__}.solvers.hosting"]._told.clear()
    presets = sys.modules[f"{pack.module.__name__}.solvers.choices"]
    with caplog.at_level(logging.WARNING):
        build_node(ADVANCED)
        for preset in presets.PRESETS | presets.FAMILY:
            build_node(PLAIN, preset=preset)
    assert not [r for r in caplog.records if "DPM-Solver" in r.getMessage()]


def test_advanced_as_dropped_is_auto(build_node, pack):
    """The advanced node's defaults are the preset auto, so that changing one widget shows what that widget does."""
    defaults = sys.modules[f"{pack.module.__name__}.solvers.notes"].DEFAULTS
    assert defaults | build_node(ADVANCED).extra_options == defaults | build_node(PLAIN).extra_options
