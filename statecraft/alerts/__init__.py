"""Events for people, written with the change that caused them, and the channels that carry them."""
