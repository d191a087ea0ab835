"""What the benchmarks compute of their runs: the Fréchet distance, the tables, and which rows are gone on with. No host, no model."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
NAMES = ("defaults", "problems", "others", "pairs", "report", "frechet", "bench")


@pytest.fixture(scope="module")
def scripts():
    """The modules of benchmarks/ by name, which find each other as they do when one of them is run."""
    sys.path.insert(0, str(FOLDER))
    try:
        yield {name: importlib.import_module(name) for name in NAMES}
    finally:
        sys.path.remove(str(FOLDER))
        for name in NAMES:
            sys.modules.pop(name, None)


def test_frechet_distance_of_known_gaussians(scripts):
    """The training set to itself 0; moved by a vector its square; scaled by s about the mean (s - 1)² times the trace of its covariance."""
    frechet = scripts["frechet"]
    law = frechet.known()
    y = np.random.default_rng(0).multivariate_normal(law["mean"], law["cov"], 100)
    y = (y - y.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(y, rowvar=False))).T @ np.linalg.cholesky(law["cov"]).T + law["mean"]
    assert abs(frechet.distance(y)) < 1e-6
    assert abs(frechet.distance(y + np.eye(32)[3] * 0.7) - 0.49) < 1e-6
    assert abs(frechet.distance(1.5 * (y - law["mean"]) + law["mean"]) - 0.25 * np.trace(law["cov"])) < 1e-5
    assert 0 < frechet.distance(law["training"][:128].astype(float)) < np.trace(law["cov"]), "as many of the training pictures"


def rows(auto, peer):
    return [
        {"problem": "demo, VP, guidance 1", "pair": pair, "counts": [5, 50], "errors": errors}
        for pair, errors in (("dpm_auto_ext + dpm_auto_ext", auto), ("euler + beta", peer))
    ]


def test_losses_are_told(scripts):
    """A cell of 5 to 25 evaluations that is more than 5 % behind is listed with its ratio; a failed cell and one of 50 are not."""
    report = scripts["report"]
    for auto, count in (([[0.3, 0.3, 0.3], [9.0]], 1), ([[0.104, 0.104, 0.104], [9.0]], 0), ([None, [9.0]], 0)):
        lines = report.behind(report.tables(rows(auto, [[0.05, 0.1, 7.0], [1.0]])))
        assert f": {count} of 1 cells" in lines[0]
        assert sum("| 3.00 |" in line for line in lines) == count


def test_the_best_of_each_side(scripts):
    """Medians over images decide, ours and peers apart; None never wins."""
    report = scripts["report"]
    _, table = report.tables(rows([[0.3, 0.2, 0.1], None], [[5.0, 0.4, 0.1], [1.0]]))["demo, VP, guidance 1"]
    assert report.least(table, 0, True) == (0.2, "dpm_auto_ext + dpm_auto_ext")
    assert report.least(table, 0, False) == (0.4, "euler + beta")
    assert report.least(table, 1, True)[1] == "-"


def test_rows_of_other_settings_are_not_gone_on_with(scripts):
    """Another seed or size is another key, and a peer's key is not that of our solvers' code."""
    key = scripts["bench"].fingerprint
    assert len({key("quick", 0, True), key("quick", 1, True), key("full", 0, True), key("quick", 0, False)}) == 4
    assert key("quick", 0, True) == key("quick", 0, True)


def test_every_size_has_every_kind_of_model(scripts):
    """VP, v, EDM and flow with guidance 1, 1.5 and 7.5 in all sizes, on the mixture whole; ours and the named peers among the pairs."""
    for size in ("quick", "default", "full"):
        names = [name for name, _ in scripts["bench"].grid(size)]
        assert len([n for n in names if n.startswith("mixture")]) == 12 == len({n for n in names if n.startswith("mixture")})
        assert any(n.startswith("demo") for n in names)
    for kind in ("VP", "flow"):
        found = scripts["pairs"].chosen(kind, "default")
        assert "dpm_auto_ext + dpm_auto_ext" in found and "dpmpp_2m + karras" in found and "ipndm + beta" in found
        assert len(found) == len(set(found))
