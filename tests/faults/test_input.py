"""Row 23: whatever is wrong with the flags or the YAML, it is exit code 2 and one line that names it; no run starts."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from faults.forked import ForkServer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny import TINY_FLAGS

pytestmark = pytest.mark.slow

Run = Callable[..., tuple[int, str, str]]
CASES = int(os.environ.get("FAULTS_FUZZ", "200"))

WHOLE = ("data.batch_size", "data.eval_batch_size", "data.val_size", "data.split_seed", "data.augment.cutout",
         "data.augment.crop_padding", "trainer.max_epochs", "trainer.max_steps", "seed_everything",
         "trainer.accumulate_grad_batches", "trainer.check_val_every_n_epoch")  # fmt: skip
REAL = ("model.label_smoothing", "model.net.dropout", "model.optimizer.lr", "model.tta.below",
        "data.augment.brightness", "data.augment.contrast", "trainer.gradient_clip_val")  # fmt: skip
SWITCHES = ("model.channels_last", "model.compile", "final_test", "trainer.inference_mode")
CHOICES = ("data.augment.flip", "model.scheduler_interval", "model.tta.views", "trainer.precision")
CLASSES = ("model.net", "model.optimizer", "model.scheduler")
GROUPS = ("", "data.", "data.augment.", "model.", "model.net.", "model.optimizer.", "model.tta.", "trainer.")

BELOW_0 = st.integers(-(2**70), -1)
RANGES: dict[str, st.SearchStrategy[Any]] = {
    "data.batch_size": st.integers(-(2**70), 0) | st.integers(61, 2**70),
    "data.eval_batch_size": st.integers(-(2**70), 0),
    "data.val_size": BELOW_0 | st.integers(60, 2**70),
    "data.augment.crop_padding": BELOW_0 | st.integers(32, 2**70),
    "data.augment.cutout": BELOW_0,
    "trainer.max_epochs": st.integers(-(2**70), -2),
    "seed_everything": BELOW_0 | st.integers(2**32, 2**70),
    "trainer.accumulate_grad_batches": st.integers(-(2**70), 0),
    "trainer.check_val_every_n_epoch": st.integers(-(2**70), 0),
    "model.label_smoothing": st.floats(1, 1e30) | st.floats(-1e30, -1e-9) | st.just(float("nan")),
    "model.net.dropout": st.floats(1, 1e30) | st.floats(-1e30, -1e-9) | st.just(float("nan")),
    "model.optimizer.lr": st.floats(-1e30, -1e-9) | st.just(float("nan")),
    "model.tta.below": st.floats(1.001, 1e30) | st.floats(-1e30, 0) | st.just(float("nan")),
}

LETTERS = st.characters(exclude_categories=("Cs",), exclude_characters="\0")
TEXT = st.text(LETTERS, max_size=20)
NAMES = st.from_regex(r"[a-z][a-z_0-9]{0,12}", fullmatch=True)
NESTED = st.recursive(st.none() | st.booleans() | st.integers() | st.text("ab:{[", max_size=5),
                      lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
                      max_leaves=5)  # fmt: skip

Case = tuple[str, Any, str]  # a key, a value that it cannot have, and what the complaint must name


def meaning(text: str) -> Any:
    """What YAML makes of a flag's value."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def is_no_number(value: Any) -> bool:
    """Nor anything that a lenient reader could take for one."""
    if isinstance(value, str):
        try:
            complex(value.strip().replace("_", "") or "x")
        except ValueError:
            return isinstance(meaning(value), (str, list, dict)) and not value.strip().startswith(("{", "["))
        return False
    return isinstance(value, list)


def leaf(key: str) -> str:
    return key.rpartition(".")[2]


WORDS = TEXT.filter(is_no_number)
WRONG_TYPES = st.tuples(st.sampled_from([*WHOLE, *REAL]), WORDS | st.lists(st.integers(), min_size=1, max_size=3))
NO_WHOLE = st.tuples(st.sampled_from(WHOLE), st.floats(0.1, 1e6).filter(lambda value: not value.is_integer()))
SPELT = {"true", "false", "yes", "no", "on", "off", "y", "n", "null", "~", ""}
NO_SWITCH = st.tuples(st.sampled_from(SWITCHES), WORDS.filter(lambda text: text.strip().lower() not in SPELT))
KNOWN = {"none", "random", "alternating", "epoch", "step", "flip", "flip_translate", "null", "~", ""}
NO_CHOICE = st.tuples(
    st.sampled_from(CHOICES),
    WORDS.filter(lambda text: text.strip() not in KNOWN and not any(digit.isdecimal() for digit in text)),
)
NO_CLASS = st.tuples(st.sampled_from(CLASSES), st.from_regex(r"Zz[A-Za-z]{1,10}(\.[a-z]{1,5})?", fullmatch=True))
OUT_OF_RANGE = st.sampled_from(sorted(RANGES)).flatmap(lambda key: st.tuples(st.just(key), RANGES[key]))
KEYS = st.tuples(st.sampled_from(GROUPS), NAMES).map(lambda pair: f"{pair[0]}zz_{pair[1]}")
UNKNOWN_KEY = st.tuples(KEYS, st.integers(0, 9) | WORDS)


def as_yaml(case: tuple[str, Any]) -> str:
    """A file that says the same."""
    content: Any = case[1]
    for part in reversed(case[0].split(".")):
        content = {part: content}
    return yaml.safe_dump(content, allow_unicode=True)


WRONG = st.one_of(WRONG_TYPES, NO_WHOLE, NO_SWITCH, NO_CHOICE, NO_CLASS, OUT_OF_RANGE, UNKNOWN_KEY)


def is_no_mapping(content: bytes) -> bool:
    try:
        return not isinstance(yaml.safe_load(content.decode("utf-8")), dict)
    except (UnicodeDecodeError, yaml.YAMLError, ValueError):
        return True


FILES = st.one_of(
    st.binary(max_size=60).filter(is_no_mapping),
    TEXT.map(lambda text: text.encode("utf-16")).filter(is_no_mapping),
    st.from_regex(r"data: [\[\{\"'&*!%@`][a-z]{0,4}", fullmatch=True).map(str.encode).filter(is_no_mapping),
    st.just(b"data: !!python/object/apply:os.system ['touch went_off']\n"),
    st.just(b"a: &a [x]\n" + b"b: *missing\n"),
    NESTED.map(lambda value: yaml.safe_dump(value).encode()).filter(is_no_mapping),
)

quick = settings(
    max_examples=CASES, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
)  # fmt: skip


def assert_refused(result: tuple[int, str, str], name: str) -> None:
    exit_code, out, err = result
    assert exit_code == 2, (exit_code, out, err)
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1, err
    assert "Traceback" not in err
    assert name in err, f"{name} is not named: {err}"
    assert not out
    assert not list(Path().rglob("*.json"))
    assert not list(Path().glob("lightning_logs/*/*"))
    assert not Path("went_off").exists()


@settings(quick, max_examples=max(CASES // 2, 1))
@given(case=WRONG)
def test_wrong_flags(run: Run, case: tuple[str, Any]) -> None:
    right = [flag for flag in TINY_FLAGS if not flag.startswith(f"--{case[0]}=")]
    assert_refused(run("fit", *right, f"--{case[0]}={case[1]}"), leaf(case[0]))


@settings(quick, max_examples=max(CASES // 4, 1))
@given(case=WRONG)
def test_wrong_settings_in_a_file(run: Run, case: tuple[str, Any]) -> None:
    right = [flag for flag in TINY_FLAGS if not flag.startswith(f"--{case[0]}=")]
    Path("wrong.yaml").write_text(as_yaml(case), encoding="utf-8")
    assert_refused(run("fit", "--config", "wrong.yaml", *right), leaf(case[0]))


@settings(quick, max_examples=max(CASES // 4, 1))
@given(content=FILES)
def test_files_that_are_no_settings(run: Run, content: bytes) -> None:
    Path("wrong.yaml").write_bytes(content)
    assert_refused(run("fit", "--config", "wrong.yaml"), "wrong.yaml")


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["fti"], "fti"), (["fit", "stray"], "stray"), (["fit", "--data.batch_size"], "data.batch_size"),
        (["fit", "--config"], "config"), (["fit", "--data.batch_size=8", "--nonsense"], "nonsense"),
        (["fit", "--model.net=os.system"], "model.net"), (["fit", "--config", "."], "."),
        (["fit", "--config", "\x1b[31m.yaml"], "x1b"), (["\x1b[31m"], "x1b"),
        (["test", "--zz", "--ckpt"], "zz"), (["data", "--zz"], "zz"), (["record", "x", "--zz"], "zz"),
        (["test", "--ckpt"], "ckpt"),
        (["fit", "--data.batch_size=\x1b[31m\n"], "data.batch_size"),
    ],
    ids=repr,
)  # fmt: skip
def test_in_a_process_of_its_own(cli: ForkServer, arguments: list[str], name: str) -> None:
    exit_code, out, err = cli.run(*arguments)
    if name == "ckpt":
        assert exit_code == 4
        assert len(err.splitlines()) == 1
    else:
        assert_refused((exit_code, out, err), name)
