"""A page in the browser where a person segments images together with a method."""
