"""How our samplers behave towards the host around the mathematics: callbacks, interrupts, callers' tensors, warnings, synchronisation."""

import logging
import warnings

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode


def spy(analytic, name, on_step):
    """SAMPLER of `name` that hands every callback dict to on_step before the host sees it."""
    import comfy.samplers

    inner = analytic.sampler(name)

    def sample(model, x, sigmas, extra_args=None, callback=None, disable=None, **options):
        def both(step):
            on_step(step)
            if callback is not None:
                callback(step)

        return inner.sampler_function(model, x, sigmas, extra_args=extra_args, callback=both, disable=disable, **options)

    return comfy.samplers.KSAMPLER(sample, inner.extra_options)


@pytest.mark.parametrize("kind", ["eps", "sd3"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_callback(analytic, steady, kind, dtype):
    """Previews, progress bars and other packs read this dict: one call per step, in order, with k-diffusion's keys and meanings."""
    patcher, dtype = analytic.build(kind), getattr(torch, dtype)
    noise, sigmas = analytic.noise_for(analytic.latent_shape(patcher)).to(dtype), analytic.schedule(patcher, "karras", 9)
    steps = []
    analytic.sample(patcher, spy(analytic, steady, steps.append), sigmas, noise)
    assert [s["i"] for s in steps] == list(range(9))
    for i, step in enumerate(steps):
        assert {"x", "i", "sigma", "sigma_hat", "denoised"} <= set(step)
        assert float(step["sigma"]) == float(step["sigma_hat"]) == float(sigmas[i])
        assert torch.is_tensor(step["x"]) and torch.is_tensor(step["denoised"])
        assert step["x"].shape == step["denoised"].shape == noise.shape
        assert step["x"].is_floating_point() and step["x"].device == patcher.load_device


def test_callback_values_equal_the_builtin(analytic):
    """x is the state that the model was asked with and denoised its answer: step by step as the built-in's on karras."""
    patcher = analytic.build("eps")
    noise, sigmas = analytic.noise_for(analytic.latent_shape(patcher)), analytic.schedule(patcher, "karras", 12)
    mine, peer = [], []
    keep = lambda into: lambda d: into.append({k: torch.as_tensor(v).clone() for k, v in d.items()})  # noqa: E731
    analytic.sample(patcher, spy(analytic, "dpmpp_2m_ext", keep(mine)), sigmas, noise)
    analytic.sample(patcher, spy(analytic, "dpmpp_2m", keep(peer)), sigmas, noise)
    for a, b in zip(mine, peer, strict=True):
        for key in ("x", "denoised", "sigma", "sigma_hat"):
            assert torch.allclose(a[key], b[key], rtol=1e-5, atol=1e-5), key


def test_host_callback(analytic, ode):
    """The callback that nodes pass (step, x0, x, total) gets every step and the right total; x0 of the last one is close to the result."""
    patcher = analytic.build("eps")
    noise, sigmas = analytic.noise_for(analytic.latent_shape(patcher)), analytic.schedule(patcher, "karras", 15)
    seen = []
    out = analytic.sample(patcher, ode, sigmas, noise, callback=lambda step, x0, x, total: seen.append((step, total, x0.cpu())))
    assert [s[:2] for s in seen] == [(i, 15) for i in range(15)]
    assert (seen[-1][2] - patcher.model.process_latent_in(out)).abs().max() < 0.05


@pytest.mark.parametrize("where", ["model", "callback"])
def test_interrupt(analytic, every, where):
    """Cancel raises inside a model call (comfy.ops) or inside the callback (the progress hook): it goes through us untouched, at once, and
    the next run is as if nothing had happened."""
    import comfy.model_management as mm

    patcher = analytic.build("eps")
    noise, sigmas = analytic.noise_for(analytic.latent_shape(patcher)), analytic.schedule(patcher, "karras", 20)
    expected, options = analytic.sample(patcher, every, sigmas, noise), repr(patcher.model_options)
    network, calls = analytic.network(patcher), []

    def cancel(index):
        calls.append(index)
        if len(calls) == 4:
            mm.interrupt_current_processing(True)

    def progress(step, x0, x, total):
        if where == "callback":
            cancel(step)
            mm.throw_exception_if_processing_interrupted()

    network.on_call = cancel if where == "model" else None
    network.calls.clear()
    try:
        with pytest.raises(mm.InterruptProcessingException):
            analytic.sample(patcher, every, sigmas, noise, callback=progress)
        assert len(calls) == 4  # of the model or of the callback: nothing went on
        assert len(network.calls) == 4 or (where == "callback" and every in ("dpmpp_sde_ext", "dpm_adaptive_ext"))
        assert not mm.processing_interrupted()
    finally:
        mm.interrupt_current_processing(False)
    network.on_call = None
    assert repr(patcher.model_options) == options
    assert torch.equal(expected, analytic.sample(patcher, every, sigmas, noise))


@pytest.mark.parametrize("kind", ["eps", "sd3"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_callers_tensors_are_unchanged(analytic, every, kind, dtype):
    """uni_pc writes into the sigmas it was given; ours writes into nothing: noise, latent, mask, sigmas, and the function's own x."""
    patcher, dtype = analytic.build(kind), getattr(torch, dtype)
    shape = analytic.latent_shape(patcher)
    noise, latent = analytic.noise_for(shape, 1).to(dtype), analytic.noise_for(shape, 2).to(dtype)
    mask, sigmas = torch.ones(1, 1, *shape[2:]), analytic.schedule(patcher, "karras", 8)
    given = []

    def sampler_function(model, x, sigmas, **how):
        given.append((x, x.clone(), sigmas, sigmas.clone()))
        return analytic.sampler(every).sampler_function(model, x, sigmas, **how)

    import comfy.samplers

    kept = [t.clone() for t in (noise, latent, mask, sigmas)]
    analytic.sample(patcher, comfy.samplers.KSAMPLER(sampler_function), sigmas, noise, latent=latent, mask=mask)
    assert all(torch.equal(a, b) for a, b in zip((noise, latent, mask, sigmas), kept, strict=True))
    ((x, x_before, s, s_before),) = given
    assert torch.equal(x, x_before) and torch.equal(s, s_before)


def bad_runs():
    """name -> (kind, sigmas)"""
    nan, inf = float("nan"), float("inf")
    return {
        "nan": ("eps", [10.0, nan, 1.0, 0.0]),
        "nan first": ("sd3", [nan, 0.5, 0.0]),
        "inf": ("eps", [inf, 1.0, 0.0]),
        "neither falling nor rising": ("eps", [10.0, 2.0, 5.0, 0.0]),
        "repeated": ("eps", [10.0, 5.0, 5.0, 0.0]),
        "repeated zero": ("eps", [10.0, 5.0, 0.0, 0.0]),
        "negative": ("eps", [10.0, 1.0, -0.5]),
        "flow above 1": ("sd3", [1.5, 0.7, 0.2, 0.0]),
        "rising from 0": ("eps", [0.0, 1.0, 10.0]),
        "rising and falling": ("flux", [0.1, 0.5, 0.3]),
        "rising to a flow's 1": ("flux", [0.0001, 0.3, 1.0]),
    }


def one_sentence(error):
    text = str(error.value)
    assert type(error.value) is ValueError
    assert "\n" not in text and 20 < len(text) < 300 and text.rstrip(".").count(". ") == 0, text
    assert text.endswith((".", "!", "?")), text


@pytest.mark.parametrize("name", list(bad_runs()))
def test_bad_sigmas(analytic, every, name):
    """One sentence, before the model has cost anybody a second. The built-ins answer these with black pictures."""
    kind, values = bad_runs()[name]
    patcher = analytic.build(kind)
    noise = analytic.noise_for(analytic.latent_shape(patcher))
    with pytest.raises(ValueError) as error:
        analytic.sample(patcher, every, torch.tensor(values), noise)
    one_sentence(error)
    assert len(analytic.network(patcher).calls) == 0


@pytest.mark.parametrize("kind", ["eps", "sd3"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_latent_with_nan(analytic, every, kind, dtype):
    """A NaN in the latent (a broken VAE encode) would become a black picture after the whole run."""
    patcher = analytic.build(kind)
    shape = analytic.latent_shape(patcher)
    latent = analytic.noise_for(shape, 2).to(getattr(torch, dtype))
    latent[0, 1, 2, 3] = float("nan")
    sigmas, noise = analytic.schedule(patcher, "karras", 10)[4:], analytic.noise_for(shape).to(latent.dtype)
    with pytest.raises(ValueError) as error:
        analytic.sample(patcher, every, sigmas, noise, latent=latent)
    one_sentence(error)
    assert "NaN" in str(error.value) and len(analytic.network(patcher).calls) == 0


@pytest.mark.parametrize("kind", ["eps", "sd3"])
def test_empty_or_single_sigma(analytic, every, kind):
    """SplitSigmas leaves such ends: x comes back as it was, as from the built-ins, without a model call."""
    patcher = analytic.build(kind)
    noise, calls = analytic.noise_for(analytic.latent_shape(patcher)), []

    class Model:
        inner_model = type("Guider", (), {"inner_model": patcher.model})

        def __call__(self, x, sigma, **_):
            calls.append(sigma)
            return x

    latent = analytic.noise_for(noise.shape, 2)
    for values in (torch.tensor([]), torch.tensor([0.7]), torch.tensor([0.0])):
        for name in (every, "dpmpp_2m"):
            out = analytic.sampler(name).sampler_function(Model(), noise, values, extra_args={}, callback=None, disable=True)
            assert torch.equal(out, noise) and not calls
        out = analytic.sample(patcher, every, values, noise, latent=latent)
        assert torch.allclose(out, analytic.sample(patcher, "dpmpp_2m", values, noise, latent=latent))
    assert not analytic.network(patcher).calls


def test_a_flipped_single_sigma(host, analytic, every):
    """What FlipSigmas makes of a one-entry schedule (the host puts 0.0001 for the 0) is no error."""
    patcher = analytic.build("eps")
    noise, sigmas = analytic.noise_for(analytic.latent_shape(patcher)), analytic.schedule(patcher, "karras", 6)
    low = host.nodes_custom.SplitSigmas.execute(sigmas, 6).args[1]
    assert len(low) == 1
    analytic.sample(patcher, every, host.nodes_custom.FlipSigmas.execute(low).args[0], noise)


@pytest.fixture
def warned(caplog):
    """warned(run) -> messages of WARNING and above, whatever way they were given, while run() ran."""

    def collect(run):
        caplog.clear()
        with warnings.catch_warnings(record=True) as raised, caplog.at_level(logging.WARNING):
            warnings.simplefilter("always")
            run()
        return [str(w.message) for w in raised] + [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]

    return collect


def test_sigmas_above_the_table(analytic, ours, warned):
    """VE sigmas more than 1 % above the model's table (a schedule made for another model): one warning, one line, and the run goes on."""
    patcher = analytic.build("eps")
    noise, sigmas = analytic.noise_for(analytic.latent_shape(patcher)), analytic.schedule(patcher, "karras", 20)
    assert warned(lambda: analytic.sample(patcher, ours, sigmas, noise)) == []
    assert warned(lambda: analytic.sample(patcher, ours, sigmas * 1.005, noise)) == []
    assert warned(lambda: analytic.sample(patcher, "dpmpp_2m", sigmas * 2, noise)) == []  # the warning is ours, not the host's
    for _ in range(2):  # each run of its own
        analytic.network(patcher).calls.clear()
        messages = warned(lambda: analytic.sample(patcher, ours, sigmas * 2, noise))
        assert len(messages) == 1 and "\n" not in messages[0] and "29.2" in messages[0], messages
        assert len(analytic.network(patcher).calls) == 20


def test_sigmas_below_the_table(analytic, ours, warned):
    """A last noise level below the model's table (0.001 under SD's 0.029) is told in one warning too; the final 0 is not."""
    patcher = analytic.build("eps")
    noise = analytic.noise_for(analytic.latent_shape(patcher))
    messages = warned(lambda: analytic.sample(patcher, ours, torch.tensor([14.6, 3.0, 0.5, 0.001, 0.0]), noise))
    assert len(messages) == 1 and "\n" not in messages[0] and "0.001" in messages[0], messages


def test_no_warning_for_usual_sigmas(host, analytic, steady, warned):
    """KarrasScheduler's default sigma_max is a hair above SD's table, zero terminal SNR starts at 4519, flow at exactly 1: all usual."""
    eps, zsnr, sd3 = (analytic.build(k) for k in ("eps", "zsnr", "sd3"))
    runs = [(eps, host.nodes_custom.KarrasScheduler.execute(10, 14.614642, 0.0291675, 7.0).args[0])]
    runs += [(m, analytic.schedule(m, s, 10)) for m in (eps, zsnr, sd3) for s in ("normal", "karras", "sgm_uniform")]
    for patcher, sigmas in runs:
        noise = analytic.noise_for(analytic.latent_shape(patcher))
        assert warned(lambda p=patcher, s=sigmas, n=noise: analytic.sample(p, steady, s, n)) == []


def test_silence(analytic, steady, capfd):
    """Extensions do not print; progress bars are the host's and off here."""
    patcher = analytic.build("eps")
    noise, sigmas = analytic.noise_for(analytic.latent_shape(patcher)), analytic.schedule(patcher, "karras", 5)
    capfd.readouterr()
    analytic.sample(patcher, steady, sigmas, noise)
    assert capfd.readouterr() == ("", "")


class Syncs(TorchFunctionMode):
    """Counts what would make a GPU wait for the host: reading a tensor's value, by any name that Python or torch has for it."""

    NAMES = ("item", "tolist", "numpy", "cpu", "__bool__", "__float__", "__int__", "__index__", "__array__")
    OPS = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select", "item", "unique", "_unique2")

    def __init__(self):
        super().__init__()
        self.found = []
        self.inner = self._dispatch()

    def _dispatch(outer):
        class Below(TorchDispatchMode):
            def __torch_dispatch__(self, func, types, args=(), kwargs=None):
                name = func.overloadpacket.__name__
                by_mask = name == "index" and any(t is not None and t.dtype == torch.bool for t in args[1])
                if name in outer.OPS or by_mask:
                    outer.found.append(name)
                return func(*args, **(kwargs or {}))

        return Below()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = getattr(func, "__name__", "")
        moved = name == "to" and any(isinstance(a, str | torch.device) for a in (*args[1:], (kwargs or {}).get("device")))
        if name in self.NAMES or moved:
            self.found.append(name)
        return func(*args, **(kwargs or {}))

    def __enter__(self):
        self.inner.__enter__()
        return super().__enter__()

    def __exit__(self, *exc):
        super().__exit__(*exc)
        return self.inner.__exit__(*exc)


def syncs(analytic, name, kind, steps, dtype=torch.float32):
    """Synchronisations of one call of the registered function with a model that makes none."""
    import comfy.k_diffusion.sampling as K

    patcher = analytic.build(kind)
    sigmas, x = analytic.schedule(patcher, "karras", steps), analytic.noise_for((1, 4, 4, 4)).to(dtype)

    class Model:
        inner_model = type("Guider", (), {"inner_model": patcher.model})

        def __call__(self, x, sigma, **_):
            assert sigma.shape == (1,)
            return x * 0.5

    steps_seen = []
    with Syncs() as counter:
        getattr(K, f"sample_{name}")(Model(), x, sigmas, extra_args={}, callback=steps_seen.append, disable=True)
    assert len(steps_seen) == steps
    return len(counter.found), counter.found


@pytest.mark.parametrize("kind", ["eps", "sd3"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_no_synchronisation_per_step(analytic, ode, kind, dtype):
    """The GPU never waits for the host inside the loop: the number of reads is small and the same for 5 and for 40 steps."""
    dtype = getattr(torch, dtype)
    few, names = syncs(analytic, ode, kind, 5, dtype)
    many, _ = syncs(analytic, ode, kind, 40, dtype)
    assert few == many <= 8, names


def test_synchronisation_counter_counts(analytic):
    """The counter can fail: the built-in reads `sigmas[i + 1] == 0` at every step but the first."""
    few, _ = syncs(analytic, "dpmpp_2m", "eps", 5)
    many, _ = syncs(analytic, "dpmpp_2m", "eps", 40)
    assert many - few >= 35
