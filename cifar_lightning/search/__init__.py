"""Better settings, looked for by Optuna on the validation split alone: definition, journal, trials, result, page."""

from cifar_lightning.errors import ConfigError

try:
    import optuna
except ModuleNotFoundError:
    raise ConfigError("search needs Optuna: pip install 'cifar_lightning[search]'") from None

optuna.logging.set_verbosity(optuna.logging.WARNING)
