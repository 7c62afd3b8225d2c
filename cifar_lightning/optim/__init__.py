"""How weights move: optimizers and learning rate schedules. Knows torch only.

Both modules are imported here, so that flags and YAML files find their classes by name.
"""

from cifar_lightning.optim import muon, schedules

__all__ = ["muon", "schedules"]
