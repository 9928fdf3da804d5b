"""Names of the demo's machine types, without the generator and what it imports."""

from collections.abc import Collection

DEV = ("rotor", "gearmesh", "valve", "slider")
EVAL = ("fan", "compressor")


def machine_types(parts: Collection[str]) -> list[str]:
    """Return the machine types of the parts ("dev", "eval") by name, those of dev first."""
    return [name for part, names in (("dev", DEV), ("eval", EVAL)) if part in parts for name in sorted(names)]
