"""Several runs compared: specification, plan, runner, statistics and page. It runs `fit` as a command."""
