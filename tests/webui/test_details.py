"""Schedule details of the accordion, against the runs that they tell of, in the host's double."""

import html
import json
import re
import sys
import types

import pytest
import torch
from dpm_solver_ext.tests.webui.processing import install
from dpm_solver_ext.tests.webui.test_registration import LABELS, NAMES
from dpm_solver_ext.tests.webui.test_sampling import ADAPTIVE, arguments
from dpm_solver_ext.tests.webui.test_tab import GAINS, part, tuned

pytestmark = pytest.mark.filterwarnings("ignore:Should have t")


@pytest.fixture
def called(make_host):
    """called(model="eps", kind="a1111") -> (the double, the sigmas of the model calls of its runs)."""

    def make(model="eps", kind="a1111"):
        host, seen = install(make_host(kind, model)), []
        host.on_call = lambda denoiser: None
        wrap = host.model.wrap

        def watched():
            made = wrap()
            forward = made.forward

            def noted(x, sigma, **conditions):
                seen.append(float(sigma[0]))
                return forward(x, sigma, **conditions)

            made.forward = noted
            return made

        host.model.wrap = watched
        return host, seen

    return make


@pytest.fixture
def ready(host):
    return install(host)


def page(sampler, scheduler="Automatic", steps=8, **more):
    return {"sampler": sampler, "scheduler": scheduler, "steps": steps, **more}


def told(values, img2img=False, **options):
    return part("details").told(img2img, values, arguments(**options))


def sigmas(text):
    return [float(row) for row in re.findall(r"<tr><td>\d+</td><td>([^<]*)</td>", text)]


def close(found, run):
    """Calls of a run come twice, for both prompts; the page has five digits."""
    return found == pytest.approx(run[::2], rel=1e-4) and len(found) > 1


@pytest.mark.parametrize("model, kind", [("eps", "a1111"), ("const", "forge"), ("eps", "old")])
@pytest.mark.parametrize("name", [name for name in NAMES if name != ADAPTIVE])
def test_every_model_call_of_a_run_is_listed(called, name, model, kind):
    """Text to image, and image to image of strength 0.6: as many, at the same noise levels."""
    host, seen = called(model, kind)
    for strength in (None, 0.6):
        more = {} if strength is None else {"strength": strength}
        text = told(page(name, **more), img2img=strength is not None)
        assert not seen, "no model is called for it"
        p = host.processing(name, **({} if strength is None else {"denoising_strength": strength}))
        host.generate(p, latent=None if strength is None else torch.zeros(1, 4, 8, 8))
        assert close(sigmas(text), seen)
        assert f"{len(seen) // 2} model calls" in text and f"<b>{name}, Automatic (" in text
        seen.clear()


@pytest.mark.parametrize("setting", [{}, {"always_discard_next_to_last_sigma": True}, {"sigma_max": 9.0}, {"img2img_fix_steps": True}])
@pytest.mark.parametrize("scheduler", ["Karras", "Exponential", *LABELS[:2]])
def test_settings_and_schedule_types_act_as_in_a_run(called, scheduler, setting):
    host, seen = called()
    vars(host.opts).update(setting)
    host.generate(
        host.processing("UniPC (ext)", scheduler, denoising_strength=0.5), arguments(final_sigma="sigma_min"), torch.zeros(1, 4, 8, 8)
    )
    text = told(page("UniPC (ext)", scheduler, strength=0.5), img2img=True, final_sigma="sigma_min")
    assert close(sigmas(text), seen) and f"{scheduler}, 8 steps, denoising strength 0.5" in text


def test_both_passes_of_a_hires_fix(called):
    """A processing.py:1450: the second has steps of its own, all of which are made; a sampler that is not ours is left out."""
    host, seen = called()
    hires = {"hires": True, "hr_sampler": "UniPC (ext)", "hr_scheduler": "DPM logSNR", "hr_steps": 5, "strength": 0.4}
    first, second = told(page("DPM-Solver++ 2M (ext)", "Karras", **hires)).split("<b>Second pass: ")
    assert first.startswith("<p><b>First pass: DPM-Solver++ 2M (ext), Karras, 8 steps</b>") and len(sigmas(first)) == 8
    p = host.processing("UniPC (ext)", is_hr_pass=True, hr_scheduler="DPM logSNR", denoising_strength=0.4)
    host.process(p)
    steps, last = host.img2img_steps(p, 5)
    sampler = sys.modules["modules.sd_samplers"].create_sampler("UniPC (ext)", None)
    assert (
        sigmas(second) == pytest.approx(sampler.get_sigmas(p, steps)[steps - last - 1 : -1].tolist(), rel=1e-4) and len(sigmas(second)) == 5
    )
    assert second.startswith("UniPC (ext), DPM logSNR, 5 steps, denoising strength 0.4</b>")
    alone = told(page("Euler", "Karras", **hires))
    assert alone.count("<b>") == 1 and "UniPC (ext), DPM logSNR" in alone
    same = told(
        page("UniPC (ext)", "Karras", **{**hires, "hr_sampler": "Use same sampler", "hr_scheduler": "Use same scheduler", "hr_steps": 0})
    )
    assert "Second pass: UniPC (ext), Karras, 8 steps, denoising strength 0.4" in same
    assert "pass" not in told(page("UniPC (ext)", **{**hires, "hires": False}))


def test_orders_and_words_of_the_plan(ready):
    """Of the official rule: first step and last one of order 1 below 10 steps."""
    orders = r"<td>([^<]*)</td></tr>"
    assert re.findall(orders, told(page("DPM-Solver++ 2M (ext)", "Karras"), final_rule="official")) == ["1", *["2"] * 6, "1"]
    assert all("corrected" in order for order in re.findall(orders, told(page("UniPC (ext)")))[:3])
    assert "(λ -2.682) to 0; solver multistep dpmsolver++ order 3" in told(page("DPM-Solver++ 3M (ext)", "Karras"))


def test_the_adaptive_sampler_has_ends_only(ready):
    text = told(page(ADAPTIVE, "Karras"))
    assert "As many steps as the tolerances ask for, from sigma 14.61" in text and "<table" not in text


def test_tuned_steps_with_their_gains(ready, tmp_path):
    name = tuned(mode=0, budget=600).outcome[0]
    content = part("files").tuned(name)[0]
    text = told(page("DPM-Solver auto (ext)", "Karras", 4), tuned=name)
    assert sigmas(text) == pytest.approx(content.sigmas[:-1], rel=1e-4) and f"auto (ext), {name}, 4 steps" in text and "Gains" not in text
    file = tmp_path / "dpm_tuned" / name
    file.with_name("gained.json").write_text(json.dumps({**json.loads(file.read_text()), "gains": GAINS}))
    text = told(page("DPM-Solver auto (ext)", "Karras", 4), tuned="gained.json")
    assert "Gains of the model calls: 1.100, 0.950, 1.200, 0.900." in text and "off here" not in text
    file.with_name("<i>.json").write_text(file.read_text())
    assert "&lt;i&gt;.json, 4 steps" in (title := told(page("UniPC (ext)", "Karras", 4), tuned="<i>.json")) and "<i>" not in title
    text = told(page("UniPC (ext)", "Karras", 4), tuned="gained.json")
    assert "gained.json has gains, which are for" in text and "off here" in text and "Gains of" not in text
    assert "was tuned for 4 steps; this run of 6" in told(page("DPM-Solver auto (ext)", "Karras", 6), tuned=name)


@pytest.mark.parametrize(
    "changed, options, said",
    [
        ({"sampler": "Euler"}, {}, "No sampler of this extension is chosen."),
        ({}, {"eta": 9}, "Fresh noise (eta) (eta) is 9; type a number from 0 to 2"),
        ({}, {"tuned": "<b>.json"}, "<b>.json"),
        ({"steps": 0}, {}, "Sampling steps is 0; type a number from 1 to 1000."),
        ({"steps": None}, {}, "Sampling steps is None; type a number"),
        ({"hires": True, "strength": 2}, {}, "Denoising strength is 2; type a number from 0 to 1."),
    ],
)
def test_what_cannot_be_told_is_one_sentence(ready, changed, options, said):
    text = told({**page("DPM-Solver++ 2M SDE (ext)"), **changed}, **options)
    assert text.count("<p>") == 1 and html.escape(said) in text and "<b>" not in text


def test_without_a_loaded_checkpoint_the_levels_are_stable_diffusions(ready):
    known = told(page("UniPC (ext)", "Karras"), final_sigma="sigma_min")
    sys.modules["modules.sd_samplers"].create_sampler = None
    text = told(page("UniPC (ext)", "Karras"), final_sigma="sigma_min")
    assert "No loaded checkpoint could be asked for its noise levels" in text
    assert sigmas(text) == pytest.approx(sigmas(known), rel=1e-3)
    assert "No loaded" in told(page("DPM-Solver auto (ext)")) and "DPM auto" in told(page("DPM-Solver auto (ext)"))


def test_strength_0_of_fixed_steps_makes_no_step(ready):
    ready.opts.img2img_fix_steps = True
    assert "No step is made." in told(page("UniPC (ext)", strength=0.0), img2img=True)


def test_a_checkpoint_that_waits_for_the_next_picture(ready, monkeypatch):
    """Forge notes the chosen checkpoint and loads it with the next picture: until then a sentence says whose levels these are."""
    data = types.SimpleNamespace(forge_loading_parameters={"checkpoint_info": "b"}, forge_hash="{'checkpoint_info': 'a'}")
    monkeypatch.setitem(sys.modules, "modules.sd_models", types.SimpleNamespace(model_data=data))
    said = "The chosen checkpoint is loaded with the next picture"
    assert said in told(page("DPM-Solver++ 2M (ext)"))
    data.forge_hash = str(data.forge_loading_parameters)
    assert said not in told(page("DPM-Solver++ 2M (ext)"))
    data.forge_hash = ""
    assert said not in told(page("DPM-Solver++ 2M (ext)")), "nothing is loaded yet"
