"""What names the machines in rows that do not show it by their times."""
