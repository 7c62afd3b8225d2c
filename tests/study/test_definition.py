"""What a study file may say, and how it is told what is wrong."""

from pathlib import Path

import pytest

from cifar_lightning.config.recipes import find_recipe
from cifar_lightning.errors import ConfigError
from cifar_lightning.study.plan import resolve
from cifar_lightning.study.spec import System, read_study

PROJECT = Path(__file__).parent.parent.parent
REPORT = PROJECT / "configs" / "report"


def test_the_report_s_study_has_its_systems_seeds_and_claims() -> None:
    study = read_study(REPORT)
    assert study.path == REPORT / "study.yaml"
    assert (study.name, study.reference, study.published) == ("report", "final", Path("results"))
    seeds = {system.name: len(system.seeds) for system in study.systems}
    assert {name for name, n in seeds.items() if n == 5} == {"final", "batch256"}
    assert min(seeds.values()) == 3
    assert {config.stem for config in REPORT.glob("*.yaml")} - {"study"} <= set(seeds)
    assert len(study.claims) == 9
    for system in study.systems:
        assert system.config is not None
        assert system.config.is_file()
    header = (REPORT / "study.yaml").read_text()
    assert "# Command: python -m cifar_lightning study configs/report" in header


def test_what_the_report_s_systems_are() -> None:
    """Each differs from the final model in what its name says."""
    settings = {system.name: resolve(system).config for system in read_study(REPORT).systems}
    net = {name: config["model"]["net"]["init_args"] for name, config in settings.items()}
    assert settings["final_100"]["trainer"]["max_epochs"] == settings["no_dropout"]["trainer"]["max_epochs"] == 100
    assert settings["no_dropout_30"]["trainer"]["max_epochs"] == settings["final"]["trainer"]["max_epochs"] == 30
    assert net["no_dropout_30"]["dropout"] == net["no_dropout_val"]["dropout"] == 0
    assert settings["final_val"]["data"]["val_size"] == settings["no_dropout_val"]["data"]["val_size"] == 5000
    rates = {name: config["model"]["optimizer"]["init_args"]["lr"] for name, config in settings.items()}
    assert (rates["lr_0.01"], rates["lr_0.0001"], rates["final"]) == (0.01, 0.0001, 0.001)


def test_a_folder_is_a_system_per_config(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / f"{name}.yaml").write_text("data: {val_size: 0}\n")
    study = read_study(tmp_path, [0, 3])
    assert [(system.name, system.seeds) for system in study.systems] == [("a", (0, 3)), ("b", (0, 3))]
    assert study.comparisons == (("b", "a"),)
    assert study.name == tmp_path.name
    assert study.arguments == f"{tmp_path.as_posix()} --seeds 0 3"
    assert read_study(tmp_path).arguments == tmp_path.as_posix()
    assert read_study(REPORT).arguments == (REPORT / "study.yaml").as_posix()


def test_overrides_are_not_read_twice(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text("systems: {a: {overrides: {x: 'no', y: '007', z: no, w: null}}}")
    assert read_study(tmp_path).systems[0].flags() == ["--x=no", "--y=007", "--z=false", "--w=null"]


def test_overrides_become_flags_that_the_parser_takes_back() -> None:
    overrides = {
        "model.net.channels": [8, 8, 8], "data.augment.flip": "random", "model.optimizer.lr": 1e-5,
        "model.compile": True, "data.root": None,
    }  # fmt: skip
    config = resolve(System("x", "x", None, overrides, (0,), "")).config
    assert config["model"]["net"]["init_args"]["channels"] == [8, 8, 8]
    assert config["data"]["augment"]["flip"] == "random"
    assert config["model"]["optimizer"]["init_args"]["lr"] == 1e-5
    assert config["model"]["compile"] is True
    assert config["data"]["root"] is None


GOOD = "systems: {a: {seeds: [0]}, b: }\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a mapping, got None"),
        ("titel: x\n" + GOOD, "the study: unknown field 'titel', did you mean 'title'"),
        ("title: x", "systems: at least one is needed"),
        ("systems: {a: {seeds: [0, 0]}}", r"system a: seeds: expected different whole numbers"),
        ("systems: {a: {seeds: [-1]}}", r"system a: seeds: expected different whole numbers"),
        ("systems: {a: {overides: {}}}", "system a: unknown field 'overides', did you mean 'overrides'"),
        ("systems: {a: {overrides: {seed_everything: 1}}}", "seed_everything is set by the study itself"),
        ("systems: {a b: }", "the name 'a b' is not one for a folder"),
        ("systems: {figures: }", "the name 'figures' is not one for a folder"),
        ("reference: c\n" + GOOD, "reference: there is no system 'c'"),
        ("title: 3\n" + GOOD, "the study: title: expected str, got 3"),
        ("published: 3\n" + GOOD, "the study: published: expected Path, null, got 3"),
        ("systems: [a]", r"the study: systems: expected dict, got \['a'\]"),
        ("comparisons: [[a, c]]\n" + GOOD, "comparisons: there is no system 'c'"),
        ("comparisons: [[a, a]]\n" + GOOD, "comparisons: expected two different systems, got 'a' twice"),
        ("comparisons: [[{a: 1}, b]]\n" + GOOD, "comparisons: expected str, got {'a': 1}"),
        ("comparisons: [[a]]\n" + GOOD, "comparisons: expected list with 2 elements, got "),
        ("claims: [{says: x}]\n" + GOOD, "claim 1: needs says"),
        ("claims: [{says: x, checks: [{compare: [a, c], metric: test_loss, expect: lower}]}]\n" + GOOD,
         "claim 1, check 1: there is no system 'c'"),
        ("claims: [{says: x, checks: [{compare: [a, b], metric: test_los, expect: lower}]}]\n" + GOOD,
         "metric must be one of .*did you mean 'test_loss'"),
        ("claims: [{says: x, checks: [{compare: [a, b], metric: test_loss, expect: falls}]}]\n" + GOOD,
         "expect must be one of higher, lower, not higher, not lower, got 'falls'"),
        ("claims: [{says: x, checks: [{system: a, metric: test_loss, expect: falls}]}]\n" + GOOD, "a curve is one of"),
        ("claims: [{says: x, checks: [{system: a, metric: test_loss, expect: equal}]}]\n" + GOOD, "value goes with"),
        ("claims: [{says: x, checks: [{metric: test_loss, expect: equal, value: 1}]}]\n" + GOOD, "needs either"),
        ("claims: [{says: x, checks: [{compare: [a], metric: test_loss, expect: lower}]}]\n" + GOOD,
         r"check 1: compare: expected list\[str, str\], null, got \['a'\]"),
        ("claims: [{says: x, checks: [{system: a, metric: test_loss, expect: equal, value: x}]}]\n" + GOOD,
         "check 1: value: expected float, null, got x"),
        ("claims: [{says: x, checks: [{system: a, metric: test_loss, value: 1}]}]\n" + GOOD,
         "check 1: the following arguments are required: expect"),
    ],
)  # fmt: skip
def test_mistakes_are_told(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "study.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        read_study(tmp_path)
    assert str(caught.value).startswith(f"study {tmp_path}/study.yaml: ")
    assert "\n" not in str(caught.value)


def test_what_is_no_study(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere: No such file or directory; give a study file, a folder"):
        read_study(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"no \.yaml file in this folder"):
        read_study(tmp_path)
    (tmp_path / "s.yaml").write_text(GOOD)
    with pytest.raises(ConfigError, match="--seeds is for a folder of configs"):
        read_study(tmp_path / "s.yaml", [1])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"trainer.max_epoch": 3}, "system x: unknown flag --trainer.max_epoch, did you mean '--trainer.max_epochs'"),
        ({"trainer.max_epochs": 0}, "system x: trainer.max_epochs must be at least 1 in a study, got 0"),
        ({"trainer.max_steps": 9}, "system x: trainer.max_steps cannot be set in a study"),
        ({"trainer.fast_dev_run": True}, "system x: trainer.fast_dev_run cannot be set in a study"),
        ({"trainer.limit_train_batches": 0}, "system x: trainer.limit_train_batches 0 leaves nothing to train"),
        ({"final_test": False}, "system x: final_test must be true in a study"),
    ],
)
def test_a_system_that_fit_would_refuse(overrides: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve(System("x", "x", None, overrides, (0,), ""))


def test_the_package_s_own_study_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same study as from a checkout, in a folder without any file."""
    monkeypatch.chdir(Path(__file__).parents[2])
    here = read_study(Path("configs/report"))
    monkeypatch.chdir(tmp_path)
    for name in ("report", "configs/report"):
        assert read_study(Path(name)) == here
    assert find_recipe(str(here.systems[0].config)).is_file()
    with pytest.raises(ConfigError, match=r"one of the package's studies: report"):
        read_study(Path("reprt"))
