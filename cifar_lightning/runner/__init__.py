"""Runs commands, several at once: in processes of this machine, or on the nodes of a Ray cluster."""
