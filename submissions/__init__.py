"""Submissions to competitions: everything that is Kaggle's will live here."""
