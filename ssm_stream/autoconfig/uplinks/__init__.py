"""What uplinks of radio sensors and vehicles have: rows that come late, and where a machine is."""
