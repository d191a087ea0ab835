"""Functions that fail, by name, when they are called."""


def __getattr__(name: str):
    if name.startswith("__"):
        raise AttributeError(name)

    def unavailable(*args, **kwargs):
        raise NotImplementedError(f"torchvision.transforms.functional.{name} is not in the demo's stand-in; install torchvision to use it")

    return unavailable
