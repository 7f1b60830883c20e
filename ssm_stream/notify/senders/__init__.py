"""How messages leave: by HTTP, to Alertmanager, through Apprise, or to standard output."""
