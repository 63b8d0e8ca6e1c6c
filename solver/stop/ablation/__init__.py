"""Ablation: training and evaluation again and again over saved data, one thing changed at a time.

Results of another plan are not continued: they raise an error.
"""
