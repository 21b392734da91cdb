"""Encoders that families share."""
