"""Studies: configs and seeds run as one experiment, gathered into a table, compared, and shown on a page."""
