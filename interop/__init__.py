"""This library behind other projects' interfaces: latent diffusion's samplers (`ldm`), diffusers' schedulers (`diffusers_scheduler`)."""
