"""What people keep in files: problems and answers, files that appear whole or grow by lines, tables.

It refuses bad input with one line that says what to do, and knows nothing of how problems are solved.
"""
