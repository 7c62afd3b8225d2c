"""How weights move: learning rate schedules. Knows torch only."""
