"""What is reckoned from scores, statistics and sets: tables, claims, cards, and what is missing in them."""
