"""What uplinks of radio sensors and vehicles have: rows that come late, totals of meters, where a machine is."""
