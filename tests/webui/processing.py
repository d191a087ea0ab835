"""The double's text to image from a processing object: A processing.py:819, as far as a run without scripts meets it.

file:line as in host.py. `install(host)` adds it to a double, with the queue (A call_queue.py:8), the state (A shared_state.py:88) and the
prompts (A prompt_parser.py:246): a prompt's condition is its number of words, `[a:b:0.5]` is one that changes.
"""

import re
import sys
import threading
import types
from collections import defaultdict
from pathlib import Path

import torch


class Scheduled:
    """A prompt_parser.py:124: ScheduledPromptConditioning."""

    def __init__(self, end_at_step, cond):
        self.end_at_step, self.cond = end_at_step, cond


class Composable:
    """A prompt_parser.py:239."""

    def __init__(self, schedules, weight=1.0):
        self.schedules, self.weight = schedules, weight


class Multicond:
    """A prompt_parser.py:246."""

    def __init__(self, shape, batch):
        self.shape, self.batch = shape, batch


def timeline(prompt, steps):
    changing = re.search(r"\[(.*):(.*):([\d.]+)\]", prompt)
    words = [float(len(part.split())) for part in (changing.groups()[:2] if changing else (prompt,))]
    ends = [int(float(changing.group(3)) * steps), steps] if changing else [steps]
    return [Scheduled(end, torch.tensor(word)) for end, word in zip(ends, words, strict=True)]


class Runner:
    """A scripts.py:588, without scripts."""

    def __init__(self):
        self.alwayson_scripts = []


def parse_prompt(prompt):
    """A extra_networks.py:178."""
    found = defaultdict(list)
    for kind, items in re.findall(r"<(\w+):([^>]+)>", prompt):
        found[kind].append(types.SimpleNamespace(items=items.split(":")))
    return re.sub(r"<(\w+):([^>]+)>", "", prompt), found


def install(host):
    """Adds to a double what is above. `host.saved` and `host.decoded` are pictures; `host.queue` is the lock."""
    host.saved, host.decoded, host.jobs, host.queue = [], [], [], threading.Lock()
    state, shared = host.state, sys.modules["modules.shared"]
    shared.sd_model, shared.cmd_opts = host.model, types.SimpleNamespace()
    sys.modules["modules.paths"].data_path = host.data = Path(sys.modules["modules.paths"].models_path)
    if not hasattr(host.model, "sd_checkpoint_info"):
        host.model.sd_checkpoint_info = types.SimpleNamespace(name_for_extra="two clusters", shorthash="0123456789")

    def begin(job):
        assert host.queue.locked(), "only who has the queue may begin"
        state.interrupted = state.skipped = False
        host.jobs.append(job)

    state.begin, state.end, state.interrupt = begin, lambda: host.jobs.append("end"), lambda: setattr(state, "interrupted", True)

    class Processing:
        def __init__(self, **given):
            blank = host.processing()
            vars(self).update(vars(blank))
            self.scripts = None
            vars(self).update(given)
            self.closed = False

        def close(self):
            self.closed = True

        def sample(self, conditioning, unconditional_conditioning, seeds, subseeds, subseed_strength, prompts):
            """:1307."""
            self.sampler = host.sampler = sys.modules["modules.sd_samplers"].create_sampler(self.sampler_name, host.model)
            x = self.rng
            return self.sampler.sample(self, x, conditioning, unconditional_conditioning, torch.zeros(len(x), 5, 1, 1))

    def process_images(p):
        sd = sys.modules["modules.sd_samplers"]
        if host.kind != "old":
            p.sampler_name, p.scheduler = sd.get_sampler_and_scheduler(p.sampler_name, p.scheduler, convert_automatic=False)
        assert p.scripts.alwayson_scripts == [], "reForge asks without looking"
        prompts = p.prompt if isinstance(p.prompt, list) else [p.prompt]
        assert len(prompts) == p.batch_size
        p.all_seeds = [p.seed + i for i in range(len(prompts))]
        p.prompts, found = zip(*map(parse_prompt, prompts), strict=True)
        p.extra_network_data = found[0]
        (host.data / "params.txt").write_text("of this run")  # :952
        assert p.restore_faces is False, "the setting would restore the faces of nothing"
        steps = sd.find_sampler_config(p.sampler_name).total_steps(p.steps)
        cond = Multicond((len(prompts),), [[Composable(timeline(prompt, steps))] for prompt in p.prompts])
        uncond = [timeline(p.negative_prompt, steps) for _ in prompts]
        shape = (16 if host.model.flow else 4, p.height // 8, p.width // 8)
        p.rng = torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in p.all_seeds])
        with torch.no_grad():
            samples = p.sample(cond, uncond, p.all_seeds, None, 0.0, p.prompts)
        if not getattr(samples, "already_decoded", False):
            host.decoded.append(samples)
        pictures = torch.stack(list(samples)).float()
        if not p.do_not_save_samples:
            host.saved.append(pictures)

    host.module("processing", StableDiffusionProcessingTxt2Img=Processing, process_images=process_images)
    host.module("call_queue", queue_lock=host.queue)
    host.module("extra_networks", parse_prompt=parse_prompt)
    host.scripts.ScriptRunner = Runner
    return host
