"""From argv, YAML files and a checkpoint to a parsed configuration, with the model and data module it describes.

No Trainer and no training here.
"""
