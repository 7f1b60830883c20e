"""Commands on earlier states that are kept."""
