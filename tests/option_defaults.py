"""The default of every option, for `golden/defaults.json`: `python tests/option_defaults.py` renews it.

Ids leave defaults out, so a default that changes makes stored results stand for another training. It may
change only together with `trainer.VERSION`, or with the `version` of the part whose option it is.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).parent / "golden" / "defaults.json"
NONE = "(required)"


def current() -> dict[str, Any]:
    """Return the trainer's version, and for each part its version and the default of each of its options."""
    import trainer
    from trainer import TrainConfig
    from trainer.registry import Registry
    from trainer.schema import (
        canonical_value,
        defaults,
        field_types,
        mapped_registry,
        registry_of,
        without_none,
    )

    def of(cls: type) -> dict[str, Any]:
        known = defaults(cls)
        return {
            field.name: canonical_value(field_types(cls)[field.name], known[field.name])
            if field.name in known
            else NONE
            for field in dataclasses.fields(cls)
        }

    def registries() -> list[Registry[Any]]:
        found: dict[str, Registry[Any]] = {}
        waiting = [TrainConfig]
        while waiting:
            cls: Any = waiting.pop()
            for hint in field_types(cls).values():
                registry = registry_of(without_none(hint)) or mapped_registry(hint)
                if registry and registry.kind not in found:
                    found[registry.kind] = registry
                    waiting += [registry.get(name) for name in registry.names()]
        return list(found.values())

    parts = {"config": of(TrainConfig)}
    for registry in registries():
        for name in registry.names():
            cls = registry.get(name)
            version = getattr(cls, "version", 1)
            parts[f"{registry.kind} {name}"] = of(cls) | ({"(version)": version} if version != 1 else {})
    return {"version": trainer.VERSION, "parts": dict(sorted(parts.items()))}


def problems(golden: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return the defaults that changed under the same versions, and the options that are not listed."""
    found = []
    for part, options in now["parts"].items():
        before = golden["parts"].get(part, {})
        same_version = golden["version"] == now["version"] and before.get("(version)") == options.get(
            "(version)"
        )
        for name, value in options.items():
            if name not in before:
                found.append(f"{part}: {name} is not listed")
            elif value != before[name] and same_version:
                found.append(f"{part}: the default of {name} was {before[name]!r} and is {value!r}")
    return found


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    GOLDEN.write_text(json.dumps(current(), indent=1) + "\n")
