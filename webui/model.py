"""What the loaded model is, from the host's denoiser (`CFGDenoiser.inner_model`) and its lists, in the words of our files."""

from typing import Any

from ..solvers.path import FLOW, ULPS, VE, Path
from ..solvers.schedule import TimeMap, sd_time_map, table_map


def path_of(wrap: Any) -> Path:
    """Rectified flow or variance-exploding, of the host's denoiser (`CFGDenoiser.inner_model`).

    Forge tells: its predictor's prediction_type is "const" for flow. Elsewhere the table of sigmas does: a flow model's ends at 1 (SD3 in
    A1111 and reForge), a variance-exploding one's at 14.6, 80 or 4519.
    """
    kind = getattr(getattr(wrap, "predictor", None), "prediction_type", None)
    if kind is not None:
        return FLOW if kind == "const" else VE
    return FLOW if float(wrap.sigmas[-1]) <= 1 + ULPS else VE


def time_map_of(wrap: Any) -> TimeMap:
    """The model's clock from its table of sigmas, log-linear (flow: linear) in between; Stable Diffusion's for a table of one."""
    table = wrap.sigmas
    return table_map(table.tolist(), log=path_of(wrap) is not FLOW) if len(table) > 1 else sd_time_map()


def checkpoint_of() -> str | None:
    """The loaded checkpoint as the host's infotext has it: name and hash; None where this host does not say."""
    from modules import shared  # the host's

    loaded = getattr(shared, "sd_model", None)
    info = getattr(loaded, "sd_checkpoint_info", None)
    name, code = getattr(info, "name_for_extra", None), getattr(loaded, "sd_model_hash", None) or getattr(info, "shorthash", None)
    return f"{name} [{code}]" if name and code else name


def prediction_of(wrap: Any) -> str | None:
    """What the network predicts, in the words of a calibration; None where this host does not say. k-diffusion has a class for each."""
    kind = getattr(getattr(wrap, "predictor", None), "prediction_type", None)
    if kind is not None:
        return {"epsilon": "EPS", "v_prediction": "V_PREDICTION", "const": "CONST", "edm": "EDM"}.get(kind)
    if path_of(wrap) is FLOW:
        return "CONST"
    names = {c.__name__ for c in type(wrap).__mro__}
    return "V_PREDICTION" if "CompVisVDenoiser" in names else "EPS" if "CompVisDenoiser" in names else None


def networks_of(p: Any) -> str:
    """LoRAs and the like of a run, "lora:ink:0.8, …"; "none" without."""
    loaded = getattr(p, "extra_network_data", None) or {}
    return ", ".join(":".join([kind, *map(str, net.items)]) for kind in sorted(loaded) for net in loaded[kind]) or "none"


def range_of_model(wrap: Any) -> str:
    """The noise levels that the model knows."""
    return f"{float(wrap.sigmas[0]):.6g} to {float(wrap.sigmas[-1]):.6g}"
