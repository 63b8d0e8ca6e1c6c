"""What people keep in files: problems and answers, and files and folders that appear whole or not at all.

It refuses bad input with one line that says what to do, and knows nothing of how problems are solved.
"""
