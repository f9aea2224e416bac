"""The worker: holds claimed runs, advances them, and gives them up."""
