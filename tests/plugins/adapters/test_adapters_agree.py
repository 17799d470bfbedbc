"""Our DDIM on the library's own times gives the library's own samples, for networks of several classes and fields."""

from __future__ import annotations

import sys
import types

import pytest
import torch

import anydiff
from anydiff.denoisers.wrappers import Clamp
from anydiff.solvers import compile_plan
from anydiff.solvers.executor import execute
from anydiff.states import Conditioning

TOLERANCE = 1e-5
"""Of the size of the samples, in float32."""
STEPS = 5
"""Divides 1000: DDIM of diffusers and of MONAI steps by N // n, whatever its list of times says."""


def ours(denoiser, x, times, condition=None, end="denoise", nfe=None, guidance=None):
    """Our samples on the library's times."""
    if guidance is not None:
        denoiser = guidance(denoiser)
    plan = compile_plan("ddim", denoiser.path, nfe or len(times), grid=[float(t) for t in times], end=end)
    with torch.no_grad():
        return execute(plan, denoiser, x, condition=condition or Conditioning())


def require_same(found, wanted):
    size = float(wanted.abs().max())
    assert float((found - wanted).abs().max()) <= TOLERANCE * max(size, 1.0), (found - wanted).abs().max()
    assert float(wanted.std()) > 1e-3


def moved(network):
    """Every parameter moved, since some begin at zero."""
    generator = torch.Generator().manual_seed(3)
    for parameter in network.parameters():
        parameter.data.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    return network.eval()


def unet2d(library, **more):
    options = {
        "sample_size": 8, "in_channels": 1, "out_channels": 1, "block_out_channels": (4, 8), "layers_per_block": 1,
        "norm_num_groups": 2, "attention_head_dim": 4, "down_block_types": ("DownBlock2D",) * 2,
        "up_block_types": ("UpBlock2D",) * 2,
    }  # fmt: skip
    return moved(library.UNet2DModel(**{**options, **more}))


def conditional(library, kind, **more):
    blocks = {"UNet2DConditionModel": "2D", "UNet3DConditionModel": "3D"}[kind]
    return moved(
        getattr(library, kind)(
            sample_size=8, in_channels=2, out_channels=2, block_out_channels=(8, 8), layers_per_block=1,
            norm_num_groups=4, attention_head_dim=4, cross_attention_dim=6,
            down_block_types=(f"CrossAttnDownBlock{blocks}", f"DownBlock{blocks}"),
            up_block_types=(f"UpBlock{blocks}", f"CrossAttnUpBlock{blocks}"), **more,
        )
    )  # fmt: skip


def dit(library):
    return moved(
        library.DiTTransformer2DModel(
            num_attention_heads=2, attention_head_dim=8, in_channels=2, out_channels=4, num_layers=1, sample_size=8,
            patch_size=2, num_embeds_ada_norm=5, norm_num_groups=2,
        )
    )  # fmt: skip


CASES = {
    "unet2d noise linear": (lambda lib: unet2d(lib), "DDIMScheduler", {}),
    "unet2d velocity scaled": (
        lambda lib: unet2d(lib),
        "DDIMScheduler",
        {"prediction_type": "v_prediction", "beta_schedule": "scaled_linear", "timestep_spacing": "trailing"},
    ),
    "unet2d data cosine": (
        lambda lib: unet2d(lib),
        "DDIMScheduler",
        {"prediction_type": "sample", "beta_schedule": "squaredcos_cap_v2"},
    ),
    "unet2d classes": (lambda lib: unet2d(lib, num_class_embeds=4), "DDIMScheduler", {"timestep_spacing": "trailing"}),
    "unet2d trained betas": (
        lambda lib: unet2d(lib),
        "DDIMScheduler",
        {"trained_betas": torch.linspace(1e-4, 0.05, 300).tolist(), "num_train_timesteps": 300},
    ),
    "unet2d clipped": (lambda lib: unet2d(lib), "DDIMScheduler", {"clip_sample": True}),
    "unet2d condition": (lambda lib: conditional(lib, "UNet2DConditionModel"), "DDIMScheduler", {}),
    "unet3d condition": (lambda lib: conditional(lib, "UNet3DConditionModel"), "DDIMScheduler", {}),
    "dit, learned variance": (dit, "DDIMScheduler", {}),
}


def given(network, rows):
    """What the network reads: (the library's keywords, our conditions)."""
    if type(network).__name__ == "DiTTransformer2DModel" or getattr(network.config, "num_class_embeds", None):
        label = torch.arange(rows) % 4
        return {"class_labels": label}, Conditioning({"label": label})
    if hasattr(network.config, "cross_attention_dim"):
        context = torch.randn(rows, 77, 6, generator=torch.Generator().manual_seed(5))
        return {"encoder_hidden_states": context}, Conditioning({"context": context})
    return {}, Conditioning()


@pytest.mark.parametrize("name", CASES)
def test_diffusers_ddim(name):
    library = pytest.importorskip("diffusers", reason="diffusers is not installed (anydiff-adapters[diffusers])")
    make, scheduler, options = CASES[name]
    torch.manual_seed(0)
    network = make(library)
    scheduler = getattr(library, scheduler)(**{"clip_sample": False, **options})
    scheduler.set_timesteps(STEPS)
    channels = network.config.in_channels
    shape = (channels, 3, 8, 8) if "3D" in type(network).__name__ else (channels, 8, 8)
    x = torch.randn(2, *shape)
    keywords, condition = given(network, len(x))
    wanted = x
    with torch.no_grad():
        for t in scheduler.timesteps:
            output = network(wanted, t.expand(len(x)), **keywords, return_dict=False)[0][:, :channels]
            # By default diffusers clips the data and keeps the noise of before, which belongs to other data.
            wanted = scheduler.step(output, t, wanted, use_clipped_model_output=True).prev_sample
    denoiser = anydiff.wrap(network, scheduler)
    guidance = Clamp() if options.get("clip_sample") else None
    require_same(ours(denoiser, x, scheduler.timesteps, condition, guidance=guidance), wanted)


def test_diffusers_unet_of_one_dimension():
    library = pytest.importorskip("diffusers", reason="diffusers is not installed (anydiff-adapters[diffusers])")
    torch.manual_seed(0)
    network = moved(
        library.UNet1DModel(
            sample_size=32, in_channels=2, out_channels=2, block_out_channels=(32, 32), layers_per_block=1,
            down_block_types=("DownBlock1DNoSkip", "DownBlock1D"), up_block_types=("UpBlock1D", "UpBlock1DNoSkip"),
            extra_in_channels=64, sample_rate=None,
        )
    )  # fmt: skip
    scheduler = library.DDIMScheduler(clip_sample=False)
    scheduler.set_timesteps(STEPS)
    x = torch.randn(2, 2, 32)
    wanted = x
    with torch.no_grad():
        for t in scheduler.timesteps:
            wanted = scheduler.step(network(wanted, t).sample, t, wanted).prev_sample
    require_same(ours(anydiff.wrap(network, scheduler), x, scheduler.timesteps), wanted)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_diffusers_flow(shift):
    library = pytest.importorskip("diffusers", reason="diffusers is not installed (anydiff-adapters[diffusers])")
    torch.manual_seed(0)
    network, scheduler = unet2d(library), library.FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(STEPS)
    x = torch.randn(2, 1, 8, 8)
    wanted = x
    with torch.no_grad():
        for t in scheduler.timesteps:
            wanted = scheduler.step(network(wanted, t.expand(2)).sample, t, wanted).prev_sample
    denoiser = anydiff.wrap(network, scheduler)
    levels = scheduler.sigmas[:-1].double()
    times = denoiser.path.time(torch.log1p(-levels) - torch.log(levels)).tolist()
    times[0] = min(times[0], 1.0)
    require_same(ours(denoiser, x, times), wanted)


def test_diffusers_edm():
    library = pytest.importorskip("diffusers", reason="diffusers is not installed (anydiff-adapters[diffusers])")
    torch.manual_seed(0)
    network, scheduler = unet2d(library), library.EDMEulerScheduler()
    scheduler.set_timesteps(STEPS)
    x = torch.randn(2, 1, 8, 8) * scheduler.init_noise_sigma
    wanted = x
    with torch.no_grad():
        for t in scheduler.timesteps:
            seen = scheduler.scale_model_input(wanted, t)
            wanted = scheduler.step(network(seen, t.expand(2)).sample, t, wanted).prev_sample
    levels = scheduler.sigmas[:-1].tolist()
    levels[0] = 80.0
    require_same(ours(anydiff.wrap(network, scheduler), x, levels), wanted)


def test_monai_in_three_dimensions():
    pytest.importorskip("monai", reason="monai is not installed (anydiff-adapters[monai])")
    from monai.networks.nets import DiffusionModelUNet
    from monai.networks.schedulers import DDIMScheduler

    torch.manual_seed(0)
    network = moved(
        DiffusionModelUNet(
            spatial_dims=3, in_channels=1, out_channels=1, channels=(4, 8), attention_levels=(False, False),
            num_res_blocks=1, norm_num_groups=2, num_class_embeds=3,
        )
    )  # fmt: skip
    scheduler = DDIMScheduler(clip_sample=False, schedule="scaled_linear_beta", prediction_type="v_prediction")
    scheduler.set_timesteps(STEPS)
    label, x = torch.tensor([2, 0]), torch.randn(2, 1, 8, 8, 8)
    times = torch.arange(800, -1, -1000 // STEPS)  # its own list of times is not the one that its step goes by
    wanted = x
    with torch.no_grad():
        for t in times:
            wanted = scheduler.step(network(wanted, t.expand(2), class_labels=label), int(t), wanted)[0]
    found = ours(anydiff.wrap(network, scheduler), x, times, Conditioning({"label": label}))
    require_same(found, wanted)


def test_monai_rectified_flow_in_two_dimensions():
    pytest.importorskip("monai", reason="monai is not installed (anydiff-adapters[monai])")
    from monai.networks.nets import DiffusionModelUNet
    from monai.networks.schedulers import RFlowScheduler

    torch.manual_seed(0)
    network = moved(
        DiffusionModelUNet(
            spatial_dims=2, in_channels=1, out_channels=1, channels=(4, 8), attention_levels=(False, False),
            num_res_blocks=1, norm_num_groups=2,
        )
    )  # fmt: skip
    scheduler = RFlowScheduler(num_train_timesteps=1000, use_discrete_timesteps=False)
    scheduler.set_timesteps(STEPS)
    times = [float(t) for t in scheduler.timesteps]
    x = torch.randn(2, 1, 8, 8)
    wanted = x
    with torch.no_grad():
        for t, after in zip(times, [*times[1:], 0.0], strict=True):
            wanted = scheduler.step(network(wanted, torch.full((2,), t)), t, wanted, after)[0]
    require_same(ours(anydiff.wrap(network, scheduler), x, [t / 1000 for t in times]), wanted)


def test_azula():
    pytest.importorskip("azula", reason="azula is not installed (anydiff-adapters[azula])")
    from azula.denoise import KarrasDenoiser
    from azula.noise import CosineSchedule, VPSchedule
    from azula.sample import DDIMSampler

    for schedule in (VPSchedule(), CosineSchedule()):
        torch.manual_seed(0)
        denoiser = KarrasDenoiser(Backbone(), schedule).eval()
        x = torch.randn(4, 6)
        sampler = DDIMSampler(denoiser, steps=STEPS, eta=0.0, silent=True)
        wanted = sampler(x.clone())
        times = torch.linspace(1, 0, STEPS + 1).tolist()
        require_same(ours(anydiff.wrap(denoiser), x, times, end="stop", nfe=STEPS), wanted)


class Backbone(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(7, 6)

    def forward(self, x, t):
        return self.layer(torch.cat([x, t.reshape(-1, 1).expand(len(x), 1)], 1))


class Velocity(Backbone):
    def forward(self, x, t):
        return super().forward(x, t)


@pytest.mark.parametrize("path", [None, "CondOTProbPath"])
def test_flow_matching(path):
    pytest.importorskip("flow_matching", reason="flow_matching is not installed (anydiff-adapters[flow-matching])")
    import flow_matching.path
    from flow_matching.solver import ODESolver

    torch.manual_seed(0)
    network = Velocity()
    grid = torch.linspace(0, 1, STEPS + 1)
    x = torch.randn(4, 6)
    wanted = ODESolver(network).sample(x, step_size=None, method="euler", time_grid=grid)
    schedule = None if path is None else getattr(flow_matching.path, path)()
    denoiser = anydiff.wrap(network, schedule, like="flow-matching")
    require_same(ours(denoiser, x, (1 - grid[:-1].double()).tolist()), wanted)


def test_lucidrains(monkeypatch):
    """The library imports torchvision, of which nothing is used here; an empty one stands in where there is none."""
    try:
        import torchvision  # noqa: F401
    except ImportError:
        for name in ("torchvision", "torchvision.transforms", "torchvision.utils"):
            monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
        sys.modules["torchvision"].transforms = sys.modules["torchvision.transforms"]
        sys.modules["torchvision"].utils = sys.modules["torchvision.utils"]
    library = pytest.importorskip(
        "denoising_diffusion_pytorch", reason="denoising-diffusion-pytorch is not installed", exc_type=ImportError
    )
    torch.manual_seed(0)
    for network, make, shape, options in (
        (library.Unet1D(dim=8, dim_mults=(1, 2), channels=2), library.GaussianDiffusion1D, (2, 16), {"seq_length": 16}),
        (library.Unet(dim=8, dim_mults=(1, 2), channels=1), library.GaussianDiffusion, (1, 8, 8), {"image_size": 8}),
    ):
        diffusion = make(
            network, timesteps=100, sampling_timesteps=STEPS, objective="pred_v", **options
        ).eval()  # fmt: skip
        torch.manual_seed(7)
        x = torch.randn(2, *shape)
        torch.manual_seed(7)
        wanted = diffusion.ddim_sample((2, *shape)) * 2 - 1
        times = [int(t) for t in reversed(torch.linspace(-1, 99, STEPS + 1).int().tolist())][:-1]
        require_same(ours(anydiff.wrap(diffusion), x, times, guidance=Clamp()), wanted)


def test_lerobot_by_its_published_faces():
    """The library is large: a stand-in with the faces of its DiffusionPolicy, under the real scheduler."""
    library = pytest.importorskip("diffusers", reason="diffusers is not installed (anydiff-adapters[diffusers])")

    class Unet(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(4 + 3 + 1, 4)

        def forward(self, x, timestep, global_cond=None):
            rows = torch.cat([global_cond, timestep.reshape(-1, 1) / 100], 1)[:, None].expand(len(x), x.shape[1], 4)
            return self.layer(torch.cat([x, rows], 2))

    torch.manual_seed(0)
    policy = torch.nn.Module()
    policy.diffusion = torch.nn.Module()
    policy.diffusion.unet = Unet()
    scheduler = library.DDIMScheduler(
        num_train_timesteps=100, beta_schedule="squaredcos_cap_v2", clip_sample=True, clip_sample_range=1.0
    )
    policy.diffusion.noise_scheduler = scheduler
    scheduler.set_timesteps(STEPS)
    x, seen = torch.randn(2, 5, 4), torch.randn(2, 3)
    wanted = x
    with torch.no_grad():
        for t in scheduler.timesteps:
            output = policy.diffusion.unet(wanted, t.expand(2), global_cond=seen)
            wanted = scheduler.step(output, t, wanted, use_clipped_model_output=True).prev_sample
    denoiser = anydiff.wrap(policy, like="lerobot", width=3)
    condition = Conditioning({"observation": seen})
    require_same(ours(denoiser, x, scheduler.timesteps, condition, guidance=Clamp()), wanted)
