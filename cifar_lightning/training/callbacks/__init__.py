"""What runs beside the training, one Lightning callback per file. A callback does not know the command line."""
