"""Calls: how a handler reaches the world. One small file per concern; `stack` shows their order."""
