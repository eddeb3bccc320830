"""What the measurements share: processes on chosen cores, load, tables. Python's standard library only."""
