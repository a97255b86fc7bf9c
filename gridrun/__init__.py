"""gridrun: experiment grids for image classification.

In a notebook: `gridrun.load_results()`, `load_epochs()` and `load_tables("grids/quickstart.yaml")`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gridrun.notebook import load_epochs, load_results, load_tables

__version__ = "0.1.0"
__all__ = ["load_epochs", "load_results", "load_tables"]


def __getattr__(name: str) -> Any:
    """Import what needs pandas only when it is asked for: `gridrun --help` answers at once."""
    if name in __all__:
        from gridrun import notebook

        return getattr(notebook, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
