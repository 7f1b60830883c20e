"""What the page shows of the days before: the hourly summaries of all entities, whichever process holds them."""
