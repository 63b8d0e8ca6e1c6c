"""What the commands share: exit codes, one line for a user's mistake, progress, and missing extras.

It refuses to know any command, and whatever a command does.
"""
