"""Ablation: training and evaluation again and again over saved data, one thing changed at a time.

It refuses to go on with results of another plan.
"""
