"""What `fit`, `validate` and `test` answer before torch is loaded: their short help, and names that do not exist."""

import ast
import json
import re
import textwrap
from pathlib import Path

from cifar_lightning.config.flags import all_flags, first_sentence, refuse_unknown
from cifar_lightning.config.invocation import Invocation
from cifar_lightning.config.recipes import short_names

TRAINER_FLAGS = {  # those that are used most, in our words; Lightning's fill pages
    "trainer.max_epochs": "epochs to train",
    "trainer.max_steps": "training steps at most; -1 sets no limit",
    "trainer.max_time": "at most so long, as days:hours:minutes:seconds",
    "trainer.accelerator": "cpu, gpu or mps; auto takes a GPU where there is one",
    "trainer.devices": "how many share out each batch",
    "trainer.precision": "such as 32-true or bf16-mixed; null takes what suits the device",
    "trainer.default_root_dir": "where runs go",
}

MORE = """\
more: --help-all shows every flag, the Trainer's too; --print_config the settings that a command would use;
--model.net.help NAME, --model.optimizer.help Adam and --model.scheduler.help CosineLR the arguments of a class."""


def answered(verb: str, purpose: str, arguments: list[str]) -> bool:
    """Prints the help that is asked for, and returns whether there was such; else raises what `refuse_unknown` does."""
    invocation = Invocation.read(arguments)
    if {"-h", "--help"} & set(invocation.flags):
        print(short_help(verb, purpose))
    elif re.search(r"(^| )--model\.net\.help( -|$)", " ".join(invocation.flags)):
        print("nets, for --model.net; --model.net.help NAME lists the arguments of one:", *_nets(), sep="\n")
    elif found := re.search(r"--model\.net\.help[ =]([\w.]+\.\w+)", " ".join(invocation.flags)):
        from cifar_lightning.config.foreign import ForeignNet  # which loads torch

        if (net := ForeignNet.find(found[1])) is None:
            return False  # one of ours, or the parser says what is wrong
        print(net.describe(), end="")
    else:
        refuse_unknown(verb, invocation)
        return False
    return True


def short_help(verb: str, purpose: str) -> str:
    """The text of `--help`: our flags with their defaults, the nets, the recipes, and the Trainer's flags most used."""
    lines = [f"usage: python -m cifar_lightning {verb} [flags]", "", f"{verb}: {purpose}."]
    lines += ["The flags with their defaults, which the settings of a checkpoint replace:"]
    group = ""
    for name, (default, meaning) in all_flags(verb).items():
        about = TRAINER_FLAGS.get(name, "") if name.startswith("trainer.") else meaning
        if about or name == "model.optimizer.lr":  # torch says elsewhere what it means
            if group != (group := name.partition(".")[0] if "." in name else "run"):
                lines += ["", f"{group}:"]
            value = default if isinstance(default, str) else json.dumps(default)
            head = f"  {f'--{name} {value}':<42}"
            lines.append(textwrap.fill(about, 120, initial_indent=head, subsequent_indent=" " * 44) or head.rstrip())
    recipes = textwrap.fill(", ".join(short_names()), 110, initial_indent="  ", subsequent_indent="  ")
    return "\n".join([*lines, "", "nets, for --model.net:", *_nets(), "", "recipes, for --config:", recipes, "", MORE])


def _nets() -> list[str]:
    """A line for every net of the package: a module that is no part of another."""
    files = sorted((Path(__file__).parents[1] / "nets").glob("*.py"))
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in files]
    parts = {node.id for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return [
        f"  {node.name:<12}{first_sentence(ast.get_docstring(node))}".rstrip()
        for tree in trees
        for node in tree.body
        if isinstance(node, ast.ClassDef) and node.bases and node.name not in parts
    ]
