"""The verbs, their dispatch, and what a failure looks like: one line on stderr and an exit code.

torch and Lightning are imported by a verb when it runs, never here, so that `--help` answers at once.
"""

import contextlib
import gc
import importlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence

from cifar_lightning import __version__, process
from cifar_lightning.config.help import answered
from cifar_lightning.errors import ConfigError, UserError, did_you_mean

# verb: (module, function, what `--help` says of it)
VERBS: dict[str, tuple[str, str, str]] = {
    "fit": ("cifar_lightning.training.fit", "fit", "train, then score the last weights on the test set once"),
    "find-lr": ("cifar_lightning.training.find_lr", "find_lr", "propose a learning rate, with the flags of fit"),
    "validate": ("cifar_lightning.training.evaluate", "validate", "score a checkpoint on the validation split"),
    "test": ("cifar_lightning.training.evaluate", "test", "score a checkpoint on the 10,000 test images"),
    "predict": ("cifar_lightning.inference.command", "main", "classify images of your own, or the test set"),
    "export": ("cifar_lightning.inference.export", "main", "write the trained net as one file: ONNX or torch"),
    "demo": ("cifar_lightning.inference.demo", "main", "a page on this machine: drop an image, see what the net says"),
    "data": ("cifar_lightning.data.command", "main", "fetch and verify CIFAR-10 ahead of time"),
    "study": ("cifar_lightning.study.command", "main", "run configs with several seeds, compare them, write a page"),
    "search": ("cifar_lightning.search.command", "main", "look for better settings, on the validation split alone"),
    "record": ("cifar_lightning.runs.results", "main", "copy a finished run's figures into results/"),
}

SHARED = ("fit", "validate", "test")  # the verbs whose work several processes share; `data` may run on every node

EXAMPLES = """\
examples:
  python -m cifar_lightning fit                                 the report's CNN, 45,000/5,000 split
  python -m cifar_lightning fit --config report/final           a recipe, by its name or path
  python -m cifar_lightning fit --model.net.dropout 0 --trainer.max_epochs 100
  python -m cifar_lightning fit --ckpt last                     go on with the newest run
  python -m cifar_lightning test --ckpt best                    or last, or a path
  python -m cifar_lightning predict --ckpt best --images cat.png photos/
  python -m cifar_lightning study configs/report --dry-run      what the comparison of the report's systems will run
  python -m cifar_lightning fit --data.source sample            no data set at hand: 6,000 images that come along
  tensorboard --logdir lightning_logs

`python -m cifar_lightning VERB --help` lists a verb's flags; `--debug` anywhere shows the traceback of a failure."""


def usage() -> str:
    """The text of `--help`: every verb, a line each, and examples."""
    lines = [f"cifar_lightning {__version__}: CIFAR-10 experiments on PyTorch Lightning", ""]
    lines += ["usage: python -m cifar_lightning VERB [flags]", "", "verbs:"]
    lines += [f"  {verb:<10}{summary}" for verb, (_, _, summary) in VERBS.items()]
    return "\n".join([*lines, "", EXAMPLES])


def main(argv: Sequence[str]) -> int:
    """Runs one verb.

    Returns:
        The exit code: 0 done, 2 configuration, 3 data, 4 checkpoint, 5 non-finite numbers, 6 input/output,
        128 and its number for a signal (130 Ctrl-C, 143 SIGTERM), 1 anything else.
    """
    arguments = list(argv)
    debug = "--debug" in arguments
    if debug:
        arguments.remove("--debug")
    process.handle_signals(process.end, but_ctrl_c=True)
    # Read when torch is loaded. Its warnings: forty lines where another process has ended, and DDP's own settings.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    threading.excepthook = _on_thread_error
    with contextlib.ExitStack() as held:
        try:
            speaks = process.is_rank_zero()
        except ConfigError as error:  # of a launcher's variables
            _say(str(error))
            return error.exit_code
        if not speaks:  # the same work in silence
            held.enter_context(contextlib.redirect_stdout(held.enter_context(open(os.devnull, "w"))))
        try:
            return _dispatch(arguments)
        except BrokenPipeError:  # `... | head`: the reader has gone, nobody is left to tell
            sys.stderr.close()
            return 1
        except BaseException as error:
            line, exit_code = _explain(error)
            if debug:
                traceback.print_exc()
            if process.has_peers():
                from cifar_lightning import rendezvous

                return rendezvous.end(error, line, exit_code, _say)
            _say(line)
            return exit_code


def _explain(error: BaseException) -> tuple[str, int]:
    """A failure as one line, and its exit code. Raises `error` itself if it is an ordinary exit."""
    if isinstance(error, UserError):
        return str(error), error.exit_code
    # Lightning answers Ctrl-C outside of the training loop with exit(1).
    ended = error.__context__ if isinstance(error, SystemExit) else error
    if isinstance(ended, KeyboardInterrupt):
        return "interrupted", 128 + signal.SIGINT
    signum = error.code - 128 if isinstance(error, SystemExit) and isinstance(error.code, int) else 0
    if signum in process.STOPPING:
        return "terminated" if signum == signal.SIGTERM else f"ended by {signal.Signals(signum).name}", 128 + signum
    if isinstance(error, OSError):  # a full disk, a folder taken away
        return f"input/output: {error.strerror or error}: {error.filename or ''}".rstrip(": "), 6
    if not isinstance(error, Exception):
        raise error
    text = " ".join(str(error).split()) or "no message"
    # By name, since torch may not be loaded; its allocator of the CPU's memory raises a mere RuntimeError.
    names = ("MemoryError", "OutOfMemoryError")
    if type(error).__name__ in names or "DefaultCPUAllocator" in text:
        advice = "try a smaller --data.batch_size or --data.eval_batch_size; the last checkpoint is whole"
        return f"out of memory: {text.partition('. ')[0]}; {advice}", 1
    if "can't start new thread" in text:
        return "this user may start no more threads: end other processes, or raise the limit (ulimit -u)", 1
    return f"unexpected {type(error).__name__}: {text} (--debug shows where)", 1


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if arguments[0] == "--version":
        print(__version__)
        return 0
    name, *rest = arguments
    if name == "bench":
        raise ConfigError("bench is now: python -m benchmarks (from a checkout)")
    if name not in VERBS:
        raise ConfigError(f"unknown verb {name!r}{did_you_mean(name, VERBS)}; verbs: {', '.join(VERBS)}")
    if process.has_peers() and name not in (*SHARED, "data"):
        raise ConfigError(f"{name} runs in one process: start it without torchrun, srun or NODE_RANK")
    module, function, purpose = VERBS[name]
    if name in (*SHARED, "find-lr") and answered(name, purpose, rest):
        return 0
    process.keep_freed_memory()
    # The imports make a million objects that all stay: searching them for garbage again and again while they come in
    # costs a good part of the time to the first step and finds nothing.
    gc.disable()
    try:
        verb: Callable[[list[str]], int] = getattr(importlib.import_module(module), function)
    finally:
        gc.enable()
    return verb(rest)


def _on_thread_error(failure: threading.ExceptHookArgs) -> None:
    # TensorBoard's thread meets the full disk first, and raises the same once more where it is asked to write next.
    if not isinstance(failure.exc_value, OSError):
        threading.__excepthook__(failure)


def _say(message: str) -> None:
    # What a user typed may hold line breaks and a terminal's control characters; they come out as they are written.
    line = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in message)
    print(f"error: {line}", file=sys.stderr)
