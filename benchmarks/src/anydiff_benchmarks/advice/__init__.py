"""How far what ``anydiff advise`` says can be relied on: its shares against measured ones, and planted faults."""
