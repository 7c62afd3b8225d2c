"""Board: the console of a benchmark, a line per figure and below them what is being measured."""

from types import TracebackType

from rich.console import Console
from rich.progress import Progress, TextColumn

from cifar_lightning.bench.table import Figure, line


class Board:
    """Prints figures as they are finished; on a terminal a line below them says what is measured now.

    That line is drawn only between measurements: a thread that turned a wheel would take its share of the machine.
    """

    def __init__(self) -> None:
        self.console = Console(highlight=False, markup=False, soft_wrap=True)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            console=self.console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            disable=not self.console.is_terminal,
        )
        self._task = self._progress.add_task("")

    def __enter__(self) -> "Board":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def measuring(self, name: str, round_number: int) -> None:
        """Says what comes now; a `measure.Watch`."""
        self._progress.update(self._task, description=f"measuring: {name}, round {round_number}")
        self._progress.refresh()

    def say(self, text: str) -> None:
        """Prints a line that stays."""
        self.console.print(text)
        self.console.file.flush()

    def show(self, figures: list[Figure]) -> None:
        """Prints a line per figure."""
        for figure in figures:
            self.say(line(figure))
