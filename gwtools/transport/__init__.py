"""Linear transport: on the line, by linear programs, by scaling, and between rows."""
