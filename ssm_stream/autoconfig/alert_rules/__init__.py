"""What a draft sets of the section `alerts`, and why."""
