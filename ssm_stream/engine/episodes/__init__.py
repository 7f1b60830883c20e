"""What an episode is called and how it ends: ids of its messages, ends that no event of its entity brings."""
