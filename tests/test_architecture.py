"""The rooms of the package and the one direction of their imports (docs/architecture.md)."""

import ast
from pathlib import Path

import cifar_lightning

PACKAGE = Path(cifar_lightning.__file__).parent

# From the ground up: a room may import what stands in a line above its own, never its neighbours.
FLOORS = (
    {"errors"},
    {"process", "distributed", "metrics", "nets", "optim"},
    {"rendezvous", "data", "classifier"},
    {"runs"},
    {"config", "training.callbacks"},
    {"training", "runner"},
    {"inference", "study"},
    {"search"},
    {"cli"},
    {"__main__"},
)
TORCH_ONLY = ("nets", "optim", "data/transforms.py")  # beside torch: the standard library and their own room


def room_of(module: str) -> str:
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[:2] == ["training", "callbacks"] else parts[0]


def imports_of(path: Path) -> set[str]:
    """Full names of the modules that a file imports, at its top or inside of a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def arrows() -> set[tuple[str, str, str]]:
    """Every import from one room into another: (file, its room, the other room)."""
    files = {path.relative_to(PACKAGE): path for path in PACKAGE.rglob("*.py")}
    found = set()
    for name, path in files.items():
        home = room_of(".".join(name.with_suffix("").parts))
        for target in imports_of(path):
            package, _, inner = target.partition(".")
            if package == "cifar_lightning" and inner and not inner.startswith("__") and room_of(inner) != home:
                found.add((str(name), home, room_of(inner)))
    return found


def test_every_import_points_down() -> None:
    floor = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    found = {arrow for arrow in arrows() if arrow[0] != "__init__.py"}  # which names what the package offers
    assert {room for _, *rooms in found for room in rooms} <= floor.keys(), "a room that has no floor yet"
    up = sorted(f"{name}: {home} -> {other}" for name, home, other in found if floor[other] >= floor[home])
    assert not up
    assert len({rooms for _, *pair in found for rooms in [tuple(pair)]}) > 20  # the imports were really found


def test_nets_optimizers_and_transforms_know_torch_only() -> None:
    files = [path for place in TORCH_ONLY for path in [PACKAGE / place, *(PACKAGE / place).glob("*.py")]]
    files = [path for path in files if path.suffix == ".py"]
    assert len(files) > 5
    for path in files:
        own = f"cifar_lightning.{path.relative_to(PACKAGE).parts[0]}"
        for name in imports_of(path):
            assert not name.startswith(("lightning", "torchvision", "jsonargparse")), f"{path}: {name}"
            assert name.startswith(own) or not name.startswith("cifar_lightning"), f"{path}: {name}"


def test_few_loose_files_and_every_folder_says_what_lives_there() -> None:
    assert len([path for path in PACKAGE.glob("*.py") if path.name != "__init__.py"]) <= 8
    folders = {path.parent for path in PACKAGE.rglob("*.py")} - {PACKAGE}
    assert folders
    for folder in folders:
        assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text())), f"{folder} does not say its job"
