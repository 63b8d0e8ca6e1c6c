"""Problems and answers in files; files written in one step or line by line; tables as text.

It refuses bad input with one line that says what to do, and knows nothing of how problems are solved.
"""
