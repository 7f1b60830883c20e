"""Alerts by rules that an engineer has set, in addition to those of the model: without budget and absorption."""
