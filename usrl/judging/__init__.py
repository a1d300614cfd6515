"""Choosing among candidate masks by the Dice that a network expects of each."""
