"""Which version this is: written once, so that it is known where nothing was installed, too."""

__all__ = ["__version__"]

__version__ = "0.2.0"
