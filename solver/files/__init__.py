"""Problems and answers in files; files written in one step or line by line; tables as text.

Bad input raises an error whose one line says what to do. Nothing here knows engines, models or runs.
"""
