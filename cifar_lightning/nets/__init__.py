"""The nets: plain `torch.nn.Module`s that know torch only.

Every module of this folder is imported here, so that one new file is enough for `--model.net ItsClassName`.
"""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
