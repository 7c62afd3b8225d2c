"""What a benchmark's JSON says, as lines for the console and as a Markdown table for the README."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from cifar_lightning.bench.measure import Summary, summary
from cifar_lightning.bench.profile import is_product

BEGIN = "<!-- bench: written by `python -m cifar_lightning bench --readme FILE`, not by hand -->"
END = "<!-- end of bench -->"

SECTIONS = ("startup", "matrix", "data", "training", "profile", "overhead")

SCALES = ((1e12, "T"), (1e9, "G"), (1e6, "M"))  # for FLOP/s


class Figure(NamedTuple):
    """One figure: its name, its value, the unit, and its ratio to what it is compared with."""

    name: str
    value: Summary
    unit: str
    compared_with: str = ""
    ratio: Summary | None = None


def figures(section: str, content: dict[str, Any]) -> list[Figure]:
    """The figures of one of `SECTIONS`, which `content` is what it measured."""
    return list(
        {
            "startup": _startup,
            "matrix": _matrix,
            "data": _data,
            "training": _training,
            "profile": _profile,
            "overhead": _overhead,
        }[section](content)
    )


def line(figure: Figure) -> str:
    """A figure for the console: name, median, spread, comparison."""
    text = f"{figure.name:<44} {value_text(figure.value['median'], figure.unit):>16}"
    details = [f"({_spread(figure.value, figure.unit)})"] if len(figure.value["values"]) > 1 else []
    if figure.compared_with:
        factor = "" if figure.ratio is None else f"{_ratio(figure.ratio)} x "
        details.append(f"{factor}{figure.compared_with}")
    return "  ".join([text, *details])


def render_table(content: dict[str, Any]) -> str:
    """The README's table, with the machine, the versions and the commit that the JSON names under it."""
    lines = [
        "| figure | median | least to greatest | rounds | compared with | ratio (least to greatest) |",
        "|---|--:|--:|--:|---|--:|",
    ]
    for section in SECTIONS:
        if section == "profile" and section not in content:  # on a GPU
            continue
        for figure in figures(section, content[section]):
            cells = (
                figure.name,
                value_text(figure.value["median"], figure.unit),
                _spread(figure.value, figure.unit),
                str(len(figure.value["values"])),
                figure.compared_with,
                "" if figure.ratio is None else f"{_ratio(figure.ratio)} ({_ratio_spread(figure.ratio)})",
            )
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", _conditions(content)])


def value_text(value: float, unit: str) -> str:
    """A number as people read it in its unit: 'images/s', 'FLOP/s', 's', 'us', 'bytes' or 'share'."""
    if unit == "FLOP/s":
        scale, prefix = next((entry for entry in SCALES if abs(value) >= entry[0]), (1.0, ""))
        return f"{value / scale:,.1f} {prefix}FLOP/s"
    return {
        "images/s": f"{value:,.0f} images/s",
        "s": f"{value:.2f} s",
        "us": f"{value:,.0f} µs",
        "bytes": f"{value / 2**20:,.0f} MiB",
        "share": f"{value:.0%}",
    }[unit]


def _startup(content: dict[str, Any]) -> Iterator[Figure]:
    imports = f"importing torch, torchvision, lightning: {value_text(content['imports_s']['median'], 's')}"
    yield Figure("`fit`, command to end of first step", content["fit_to_first_step_s"], "s", imports, content["ratio"])
    yield Figure("reading the data set", content["read_data_s"], "s")
    yield Figure("peak memory of that `fit`", content["peak_memory_bytes"], "bytes")
    if content["peak_gpu_memory_bytes"]["max"]:
        yield Figure("peak GPU memory of that `fit`", content["peak_gpu_memory_bytes"], "bytes")


def _matrix(content: dict[str, Any]) -> Iterator[Figure]:
    for name, rates in content.items():
        shape, best = max(rates["shapes"].items(), key=lambda item: item[1]["max"])
        yield Figure(f"matrix product, {name}, best shape {shape}", best, "FLOP/s")


def _data(content: dict[str, Any]) -> Iterator[Figure]:
    rates = content["images_per_s"]
    torchvision = _beside(f"torchvision, {content['best_workers']} workers", rates["torchvision"])
    name = f"data path, crop and flip, batch {content['batch_size']}"
    yield Figure(name, rates["ours"], "images/s", torchvision, content["ratio"])
    for name, rate in rates.items():
        if name not in ("ours", "torchvision"):
            yield Figure(f"data path, {name.removeprefix('ours, ')}", rate, "images/s")


def _training(content: dict[str, Any]) -> Iterator[Figure]:
    for size, result in content.items():
        rates, name = result["images_per_s"], f"training, batch {size}"
        for other, ratio in result["ratio"].items():
            yield Figure(name, rates["ours"], "images/s", _beside(other, rates[other]), ratio)
        share = result["share_of_matrix_rate"]
        roof = f"the best matrix product, {result['matrix']}: {value_text(result['matrix_rate'], 'FLOP/s')}"
        yield Figure(name, result["flop_per_s"], "FLOP/s", roof, share)


def _profile(content: dict[str, Any]) -> Iterator[Figure]:
    named = [(name, share) for name, share in content["operators"].items() if name != "the rest"]
    others = [(name, share) for name, share in named if not is_product(name)]
    # The file's own rest holds the products that are not among the named operators.
    others.append(("the rest", 1 - content["products"] - sum(share for _, share in others)))
    beside = "beside them: " + ", ".join(f"{name.removeprefix('aten::')} {share:.0%}" for name, share in others)
    products = summary([content["products"]])
    yield Figure(f"matrix products' share of the step's time, batch {content['batch_size']}", products, "share", beside)


def _overhead(content: dict[str, Any]) -> Iterator[Figure]:
    for key, name in (("trainer", "the Trainer's loop"), ("ours", "what `fit` adds to it")):
        shares = [f"{share[key]:.1%} at batch {size}" for size, share in content["share_of_step"].items()]
        fastest = value_text(content["fastest_us"][key], "us")
        beside = f"fastest rounds: {fastest}; of the CNN's step: {', '.join(shares)}"
        yield Figure(f"overhead of a step, one-layer net, {name}", content[f"{key}_us"], "us", beside)


def _conditions(content: dict[str, Any]) -> str:
    hardware, versions = content["hardware"], content["versions"]
    machine = f"{hardware['threads']} threads of {hardware['cpu']}"
    if "gpu" in hardware:
        machine = f"{hardware['gpu']}, {machine}"
    commit = "no commit" if content["commit"] is None else f"commit {content['commit'][:7]}"
    changed = " with changes" if content["dirty"] else ""
    packages = ", ".join(f"{name} {versions[name]}" for name in ("python", "torch", "torchvision", "lightning"))
    quick = " A quick run: no figure to build on." if content["quick"] else ""
    return (
        f"{machine}; precision {content['precision']}; {packages}; {commit}{changed}; {content['started_at'][:10]}; "
        f"`{content['command']}`. A ratio is the median of the rounds' own ratios.{quick}"
    )


def _beside(name: str, rate: Summary) -> str:
    return f"{name}: {value_text(rate['median'], 'images/s')}"


def _spread(value: Summary, unit: str) -> str:
    return f"{value_text(value['min'], unit)} to {value_text(value['max'], unit)}"


def _ratio(ratio: Summary) -> str:
    return f"{ratio['median']:.2f}"


def _ratio_spread(ratio: Summary) -> str:
    return f"{ratio['min']:.2f} to {ratio['max']:.2f}"
