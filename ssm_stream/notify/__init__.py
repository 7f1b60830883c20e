"""Alerts to people and systems: a consumer of the alerts topic for each target of the section `notify`."""
