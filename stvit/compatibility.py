"""The one trap of installing torch: a torchvision wheel that was built for another torch."""


def check_torchvision() -> None:
    """Turn the failure that timm's import would end in into a message with the remedy."""
    try:
        import torchvision  # noqa: F401
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        raise ImportError(
            f"the installed torchvision was built for another torch ({error}). PyPI's torchvision does not load "
            "beside a CPU-only torch. Take both from one source:\n"
            "    pip install --force-reinstall torch torchvision\n"
            "or both from PyTorch's own CPU index (see its installation page)."
        ) from error
