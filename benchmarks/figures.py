"""The figures in the JSON of `bench`, as text for the console and for the table."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from benchmarks.measure import Summary, summary
from benchmarks.step import is_product

SCALES = ((1e12, "T"), (1e9, "G"), (1e6, "M"))  # for FLOP/s


class Figure(NamedTuple):
    """One figure: its name, its value, the unit, and its ratio to what it is compared with."""

    name: str
    value: Summary
    unit: str
    compared_with: str = ""
    ratio: Summary | None = None

    def cells(self) -> tuple[str, str, str, str, str, str]:
        """Name, median, least to greatest, number of rounds, comparison, and the ratio to it with its spread."""
        median, least, greatest = (value_text(self.value[key], self.unit) for key in ("median", "min", "max"))
        ratio = "" if self.ratio is None else "{median:.2f} ({min:.2f} to {max:.2f})".format(**self.ratio)
        rounds = str(len(self.value["values"]))
        return self.name, median, f"{least} to {greatest}", rounds, self.compared_with, ratio

    def line(self) -> str:
        """For the console, without the spread of the ratio."""
        name, median, spread, rounds, compared_with, ratio = self.cells()
        beside = f"{ratio.partition(' ')[0]} x {compared_with}" if ratio else compared_with
        return "  ".join([f"{name:<56}", f"{median:>18}", *([f"({spread})"] if rounds != "1" else []), beside]).rstrip()


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
    parts = ", ".join(f"{name} {value_text(part, 'us')}" for name, part in content.get("parts_us", {}).items())
    for key, name in (("trainer", "the Trainer's loop"), ("ours", "what `fit` adds to it")):
        shares = [f"{share[key]:.1%} at batch {size}" for size, share in content["share_of_step"].items()]
        fastest = value_text(content["fastest_us"][key], "us")
        beside = f"fastest rounds: {fastest}; of the CNN's step: {', '.join(shares)}"
        if key == "ours" and parts:
            beside += f"; of it in our code: {parts}"
        yield Figure(f"overhead of a step, one-layer net, {name}", content[f"{key}_us"], "us", beside)


def _beside(name: str, rate: Summary) -> str:
    return f"{name}: {value_text(rate['median'], 'images/s')}"


# By section of the JSON: from what it measured to its figures.
FIGURES: dict[str, Callable[[dict[str, Any]], Iterator[Figure]]] = {
    "startup": _startup,
    "matrix": _matrix,
    "data": _data,
    "training": _training,
    "profile": _profile,
    "overhead": _overhead,
}
