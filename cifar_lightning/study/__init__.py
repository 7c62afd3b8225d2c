"""Several runs compared: specification, plan, runner, statistics, page. It starts `fit` as a command and no other room
of the package imports it."""
