"""`bench`: how fast this project is on this machine, each figure beside something to compare it with."""
