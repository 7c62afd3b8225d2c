"""The recipes in `configs/`, by name: `cpu78`, `report/final`, the studies: `report`, and the searches in `search/`.

The package holds a link to the folder, and a wheel its files, so that a name works from anywhere.
"""

from pathlib import Path

from cifar_lightning.errors import ConfigError, did_you_mean

FOLDER = Path(__file__).parents[1] / "configs"
STUDY_FILE = "study.yaml"
SEARCHES = FOLDER / "search"


def recipe_names() -> dict[str, Path]:
    """Every recipe's file by its name: its path without suffix, and the last part of that where it is the only one."""
    files = sorted(path for path in FOLDER.rglob("*.yaml") if path.name != STUDY_FILE and SEARCHES not in path.parents)
    names = {path.relative_to(FOLDER).with_suffix("").as_posix(): path for path in files}
    stems = [path.stem for path in files]
    return names | {path.stem: path for path in files if stems.count(path.stem) == 1}


def short_names() -> list[str]:
    """Every recipe once, by the shortest of its names."""
    known = recipe_names()
    return sorted({min((n for n in known if known[n] == path), key=len) for path in known.values()})


def find_recipe(name: str) -> Path:
    """The file that --config names: a path, or else a recipe. Raises a ConfigError that lists the known recipes."""
    if (path := Path(name)).is_file():
        return path
    known = recipe_names()
    if found := known.get(name.removeprefix("configs/").removesuffix(".yaml")):
        return found
    nearest = did_you_mean(name.removesuffix(".yaml"), known)
    raise ConfigError(f"--config {name}: no such file or recipe{nearest}; recipes: {', '.join(short_names())}")
