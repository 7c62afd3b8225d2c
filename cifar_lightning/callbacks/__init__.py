"""What happens around the training: curves, timing, progress, checkpoints, signals, the final score."""
