"""A run on disk: its folder, record, checkpoints, environment and figures. Nothing here trains."""
