"""Sends what a file recorded, in the order and at the pace in which live traffic would come."""
