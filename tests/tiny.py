"""The smallest experiment that still has every part."""

# A net of a few hundred weights and few images: an epoch takes a tenth of a second.
TINY_NET = ["--model.net.channels=[4,4,8]", "--model.net.hidden_features=[8,8]"]
TINY_TRAINING = [
    "--data.val_size=20", "--data.batch_size=8", "--trainer.max_epochs=2", "--trainer.accelerator=cpu",
]  # fmt: skip
TINY_FLAGS = TINY_NET + TINY_TRAINING
