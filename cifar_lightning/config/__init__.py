"""From argv, YAML files and a checkpoint to a parsed configuration, with the model and the data module that it describes.

No Trainer and no training here.
"""
