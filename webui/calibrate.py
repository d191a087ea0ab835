"""The calibration of DPM-Solver-v3 for the loaded checkpoint."""

from pathlib import Path
from typing import Any

from ..solvers.folders import EMS, check_writable
from .files import top
from .measure import Measured, Use, Watch, code_of, halving, on_the_model


def calibrate(use: Use, watch: Watch, *, samples: int, nodes: int, probes: int, kind: str, seed: int, name: str) -> tuple[str | None, str]:
    """(the file in models/dpm_ems, what was done). The file is `name` with a code of all settings but `samples`: what is
    there already is not measured again. What is measured is kept when the run is interrupted or fails; then the file is None."""
    from ..solvers.ems_calibrate import calibrate as measure
    from ..solvers.ems_calibrate import cost
    from ..solvers.ems_file import save_ems
    from ..solvers.ems_held import check_settings, held, paid
    from ..solvers.ems_paths import node_sigmas, starts
    from ..solvers.ems_pool import usable_kind
    from ..solvers.hosting import tell
    from ..solvers.keep import Keeper

    EMS.place_in(top(EMS), name, "", "Name of the statistics")  # a bad name is said before anything is loaded
    told: dict[str, Any] = {}

    def work(model: Measured) -> tuple[Path, str]:
        usable, note = usable_kind(kind, model.shape)
        if note:
            tell(note)
        sigmas = node_sigmas(model.path, model.top, model.low, nodes, model.table)
        lead = starts(model.path, model.top, sigmas[0])
        settings = model.words | {
            "nodes": str(nodes), "probes": str(probes), "prompts": f"{len(use.prompts)} #{code_of(use.prompts, use.negative)}",
        }  # fmt: skip
        file = EMS.place_in(top(EMS), name, code_of(settings, model.shape, usable, seed))
        before = held(file)
        if before is not None:
            check_settings(before, settings, file)
        wanted = {(seed, i) for i in range(samples)}
        total = cost(samples, len(sigmas), probes, lead)
        watch.begin(paid(before, wanted, len(sigmas), probes, lead))
        check_writable(file)
        told["kept"] = file.name
        with Keeper(before, file, save_ems) as keep:

            def report(done: int, of: int, moments: Any) -> None:
                keep.content = moments
                keep()
                watch(done, of)

            def once(batch: int) -> Any:
                return measure(
                    model, model.path, model.shape, sigma_max=model.top, sigma_min=model.low,
                    samples=samples, nodes=nodes, probes=probes, kind=usable, seed=seed, batch=batch, table=model.table,
                    moments=keep.content, metadata=settings, report=report, begin=model.begin, device=model.device,
                )  # fmt: skip

            watch(watch.first, total)
            keep.content = halving(once, min(samples, use.batch))
            save_ems(keep.content, file)
            keep.finish()
        return file, f"{model.made:,} model calls: {len(keep.content.ids)} samples are in {file.name}."

    done = on_the_model(use, watch, work)
    if done is None:
        kept = f"; what is measured is kept, and the same settings go on from there ({told['kept']})" if told else ""
        return None, f"Stopped{kept}."
    return done[0].name, done[1]
