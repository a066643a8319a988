"""The command line: one file per verb that is more than a call of the library."""
